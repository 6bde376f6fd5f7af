"""A ckpt.pt of nanoGPT is read with its logits; any other pickle is refused and runs nothing."""

import dataclasses
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plain_nanogpt import PlainGPT

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.weights.find_source import open_source
from groundup.weights.nanogpt import open_nanogpt
from groundup.weights.nanogpt_writer import check_nanogpt
from groundup.weights.sources import build_model

ARGS: dict[str, Any] = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "bias": True, "vocab_size": 50,
    "dropout": 0.1,
}  # fmt: skip


def written(path: Path, *, compiled: bool = False, **changes: Any) -> PlainGPT:
    """Write a checkpoint as train.py does, and return its model."""
    args = {**ARGS, **changes}
    torch.manual_seed(1)
    model = PlainGPT(SimpleNamespace(**args)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    prefix = "_orig_mod." if compiled else ""
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint = {
        "model": {prefix + name: value for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": args,
        "iter_num": 5,
        "best_val_loss": torch.tensor(3.5),
        "config": {"dataset": "shakespeare", "learning_rate": 6e-4},
    }
    torch.save(checkpoint, path)
    return model


def changed(path: Path, **changes: Any) -> None:
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


@pytest.mark.parametrize(
    "changes", [{}, {"compiled": True}, {"bias": False, "compiled": True}, {"vocab_size": 64}]
)
def test_the_logits_are_those_of_nanogpt(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = written(tmp_path / "ckpt.pt", **changes)
    pretrained = open_source(tmp_path / "ckpt.pt")
    assert pretrained.family == "nanogpt"
    assert pretrained.config.vocab_size == changes.get("vocab_size", 50)
    assert pretrained.config.tie_embeddings
    ours = build_model(pretrained)
    ids = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(0))
    targets = ids.roll(-1, dims=1)
    there, loss = theirs(ids, targets)
    torch.testing.assert_close(ours(ids), there, rtol=1e-5, atol=1e-5)
    assert loss is not None
    assert ours.loss(ids, targets).item() == pytest.approx(loss.item(), rel=1e-5)
    ours.loss(ids, targets).backward()
    loss.backward()
    expected = theirs.get_parameter("transformer.h.1.attn.c_attn.weight").grad
    found = ours.get_parameter("blocks.1.attention.qkv.weight").grad
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_head_of_its_own_and_the_causal_mask_of_old_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    written(path)
    weights = torch.load(path, weights_only=True)["model"]
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 12, 12)
    assert open_nanogpt(path).config.tie_embeddings
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    changed(path, model=weights)
    pretrained = open_nanogpt(path)
    assert not pretrained.config.tie_embeddings
    assert torch.equal(pretrained.tensors["head.weight"](), weights["lm_head.weight"])


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"model": {}, "model_args": Harmful(tmp_path / "ran")}, tmp_path / "ckpt.pt")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    for name in ("ckpt.pt", "plain.bin"):
        with pytest.raises(UserError, match=r"could run code|cannot be read as a checkpoint"):
            open_source(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def other_program(path: Path) -> None:
    torch.save({"encoder.weight": torch.ones(2)}, path)


def a_list(path: Path) -> None:
    torch.save([1, 2], path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_program, "pickle of another program"),
        (a_list, "pickle of another program"),
        (cut, "cannot be read as a checkpoint of nanoGPT"),
        (other_archive, "cannot be read as a checkpoint of nanoGPT"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: changed(path, model_args={**ARGS, "n_layer": 3}), r"Missing weights \(12\)"),
        (
            lambda path: changed(path, model_args={**ARGS, "vocab_size": 51}),
            r"wte.weight for token_embedding.weight has shape \(50, 16\).*expects \(51, 16\)",
        ),
        (lambda path: changed(path, model_args={"n_layer": 3}), "has no n_head"),
        (lambda path: changed(path, model_args={**ARGS, "rotary": True}), "has rotary, which"),
        (lambda path: changed(path, model_args={**ARGS, "n_embd": "16"}), "d_model is '16'"),
        (lambda path: changed(path, model_args={**ARGS, "n_embd": 10**7}), "describes a model of"),
    ],
)
def test_other_and_damaged_files_are_refused_in_one_sentence(
    tmp_path: Path, damage: Any, said: str
) -> None:
    path = tmp_path / "ckpt.pt"
    written(path)
    damage(path)
    with pytest.raises(UserError, match=said) as caught:
        open_nanogpt(path)
    assert caught.value.where == path
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sliding_window": 64}, "sliding_window"),
        ({"layers": "wg", "window": 64}, "layers"),
        ({"layers": "dg"}, "layers"),
    ],
)
def test_a_window_is_not_dropped_silently(changes: dict[str, Any], name: str) -> None:
    config = dataclasses.replace(GPTConfig.gpt2("124M"), **changes)
    with pytest.raises(UserError, match=f"nanoGPT does not compute this model.*{name} is"):
        check_nanogpt(config)
