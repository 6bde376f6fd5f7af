"""groundup.nanogpt equals nanoGPT: weights, draws, losses, training, samples, checkpoints."""

import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_nanogpt import PlainGPT
from torch import Tensor

from groundup import nanogpt
from groundup.base.errors import UserError
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig as OurConfig
from groundup.model.gpt import GPT as OurGPT  # noqa: N811
from groundup.weights.huggingface import export_huggingface

CONFIG = nanogpt.GPTConfig(block_size=16, vocab_size=23, n_layer=2, n_head=2, n_embd=16)
CONFIGS = [CONFIG, replace(CONFIG, bias=False), replace(CONFIG, dropout=0.3)]


def both(config: nanogpt.GPTConfig, seed: int = 1337) -> tuple[nanogpt.GPT, PlainGPT]:
    torch.manual_seed(seed)
    ours = nanogpt.GPT(config)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    plain = PlainGPT(config)
    assert torch.equal(torch.get_rng_state(), state)
    return ours, plain


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(23, (3, 17), generator=generator)
    targets = ids[:, 1:].clone()
    targets[0, :5] = -1
    return ids[:, :-1], targets


@pytest.mark.parametrize("config", CONFIGS)
def test_the_seed_gives_the_weights_of_nanogpt(config: nanogpt.GPTConfig) -> None:
    ours, plain = both(config)
    first, second = ours.state_dict(), plain.state_dict()
    assert list(first) == list(second)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert ours.lm_head.weight is ours.transformer.wte.weight


@pytest.mark.parametrize("config", CONFIGS)
def test_losses_and_training_are_those_of_nanogpt(config: nanogpt.GPTConfig) -> None:
    """With dropout the draws are the same, so the training is."""
    ours, plain = both(config)
    optimizers = (
        ours.configure_optimizers(0.1, 1e-2, (0.9, 0.95), "cpu"),
        plain.optimizer(0.1, 1e-2, (0.9, 0.95)),
    )
    curves = []
    for model, optimizer in zip((ours, plain), optimizers, strict=True):
        torch.manual_seed(3)
        losses = []
        for step in range(8):
            logits, loss = model(*batch(step))
            assert logits.shape == (3, 16, 23)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[0] == pytest.approx(curves[1], abs=2e-5)
    sizes = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers]
    assert sizes[0] == sizes[1]


def test_logits_of_large_weights_show_the_exact_gelu() -> None:
    ours, plain = both(CONFIG)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(std=0.7, generator=generator)
    ours.load_state_dict(plain.state_dict())
    ids, targets = batch()
    # The two forms of GELU differ by up to 5e-4 per value.
    torch.testing.assert_close(ours(ids, targets)[0], plain(ids, targets)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.8, 5), (1.3, 100), (1, 1)])
def test_samples_are_those_of_nanogpt(temperature: float, top_k: int | None) -> None:
    ours, plain = both(CONFIG)
    texts = []
    for model in (ours, plain):
        model.eval()
        torch.manual_seed(5)
        texts.append(
            model.generate(torch.tensor([[1, 2], [3, 4]]), 30, temperature=temperature, top_k=top_k)
        )
    assert texts[0].shape == (2, 32)
    assert torch.equal(*texts)
    assert not any(p.grad is not None for p in ours.parameters())


def test_forward_without_targets_and_wrong_input() -> None:
    model = nanogpt.GPT(CONFIG)
    logits, loss = model(batch()[0])
    assert logits.shape == (3, 1, 23)
    assert loss is None
    for wrong in (torch.zeros(1, 17).long(), torch.zeros(5).long(), torch.tensor([[23]])):
        with pytest.raises(UserError, match=r"do not fit|is expected"):
            model(wrong)
    with pytest.raises(UserError, match="not divisible by n_head 5"):
        nanogpt.GPT(replace(CONFIG, n_head=5))


def test_counts_crop_and_mfu() -> None:
    model = nanogpt.GPT(replace(CONFIG))
    n = sum(p.numel() for p in model.parameters())
    assert model.get_num_params(non_embedding=False) == n
    assert model.get_num_params() == n - 16 * 16
    flops = (6 * (n - 256) + 12 * 2 * 2 * 8 * 16) * 16 * 5 / 0.1
    assert model.estimate_mfu(fwdbwd_per_iter=5, dt=0.1) == pytest.approx(flops / 312e12)
    ids = torch.arange(6)[None]
    before = model(ids)[0]
    model.crop_block_size(6)
    torch.testing.assert_close(model(ids)[0], before)
    assert model.config.block_size == len(model.transformer.wpe.weight) == 6
    for wrong in (0, 7):
        with pytest.raises(UserError, match="from 1 to 6"):
            model.crop_block_size(wrong)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("untied", [False, True])
def test_it_becomes_ours_with_equal_logits_and_back(
    config: nanogpt.GPTConfig, untied: bool, tmp_path: Path
) -> None:
    model = nanogpt.GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        if untied:
            model.lm_head.weight = torch.nn.Parameter(torch.randn(23, 16))
    gpt = nanogpt.to_gpt(model).eval()
    ids, targets = batch()
    wanted = model(ids, targets)[0]
    torch.testing.assert_close(gpt(ids), wanted, rtol=1e-4, atol=1e-4)
    assert len(generate(gpt, [1, 2, 3], 4)) == 4
    back = nanogpt.from_gpt(gpt).eval()
    assert back.config == config
    torch.testing.assert_close(back(ids, targets)[0], wanted)
    checkpoint = {"model": back.state_dict(), "model_args": asdict(config)}
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    opened, _ = nanogpt.load_checkpoint(tmp_path / "ckpt.pt")
    torch.testing.assert_close(opened(ids, targets)[0], wanted)
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
    assert gpt.position_embedding is not None
    assert gpt.position_embedding.weight.abs().sum() > 0  # its own weights


def test_a_model_without_biases_of_queries_becomes_one_with_zeros() -> None:
    config = OurConfig(
        vocab_size=23, context_length=16, d_model=16, n_layers=2, n_heads=2, norm="layer",
        norm_eps=1e-5, positions="learned", qk_norm=False, activation="gelu", bias=True,
        init="torch",
    )  # fmt: skip
    gpt = OurGPT(config, seed=1)
    ids, targets = batch()
    torch.testing.assert_close(nanogpt.from_gpt(gpt)(ids, targets)[0], gpt(ids))


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "rms"}, {"norm_eps": 1e-6}, {"positions": "rotary"}, {"qk_norm": True},
        {"activation": "relu2"}, {"ngram": 2}, {"qkv_bias": True}, {"n_kv_heads": 1}, {"d_ff": 32},
        {"d_head": 4},
    ],
    ids=str,
)  # fmt: skip
def test_other_architectures_are_refused(change: dict[str, Any]) -> None:
    usual: dict[str, Any] = {
        "vocab_size": 23, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2,
        "norm": "layer", "norm_eps": 1e-5, "positions": "learned", "qk_norm": False,
        "activation": "gelu",
    }  # fmt: skip
    nanogpt.from_gpt(OurGPT(OurConfig(**usual)))
    with pytest.raises(UserError, match="no model of this architecture"):
        nanogpt.from_gpt(OurGPT(OurConfig(**{**usual, **change})))


def test_from_pretrained_reads_a_folder(tmp_path: Path) -> None:
    config = replace(CONFIG, bias=True)
    gpt = OurGPT(
        OurConfig(
            vocab_size=23, context_length=16, d_model=16, n_layers=2, n_heads=2, norm="layer",
            norm_eps=1e-5, positions="learned", qk_norm=False, activation="gelu", bias=True,
            qkv_bias=True, init="torch",
        )
    )  # fmt: skip
    export_huggingface(gpt, tmp_path / "gpt2")
    model = nanogpt.GPT.from_pretrained(str(tmp_path / "gpt2"), {"dropout": 0.1})
    assert model.config == replace(config, dropout=0.1)
    ids, targets = batch()
    torch.testing.assert_close(model.eval()(ids, targets)[0], gpt(ids))
    with pytest.raises(UserError, match="nothing is downloaded"):
        nanogpt.GPT.from_pretrained("gpt2-xl")
    with pytest.raises(UserError, match="Only dropout"):
        nanogpt.GPT.from_pretrained(tmp_path / "gpt2", {"bias": False})


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_its_checkpoint_opens_and_training_continues(prefix: str, tmp_path: Path) -> None:
    plain = PlainGPT(CONFIG)
    optimizer = plain.optimizer(0.1, 1e-2, (0.9, 0.95))
    for step in range(3):
        optimizer.zero_grad()
        plain(*batch(step))[1].backward()
        optimizer.step()
    weights = {prefix + name: value for name, value in plain.state_dict().items()}
    weights[f"{prefix}transformer.h.0.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
    torch.save(
        {
            "model": weights,
            "optimizer": optimizer.state_dict(),
            "model_args": asdict(CONFIG),
            "iter_num": 3,
            "best_val_loss": torch.tensor(1.5),
            "config": {"dataset": "shakespeare", "compile": True},
        },
        tmp_path / "ckpt.pt",
    )
    model, rest = nanogpt.load_checkpoint(str(tmp_path / "ckpt.pt"))
    assert rest["iter_num"] == 3
    assert not model.training
    ids, targets = batch(9)
    torch.testing.assert_close(model(ids, targets)[0], plain(ids, targets)[0])
    ours = model.train().configure_optimizers(0.1, 1e-2, (0.9, 0.95), "cpu")
    ours.load_state_dict(rest["optimizer"])
    for step in range(3, 6):
        for m, o in ((model, ours), (plain, optimizer)):
            o.zero_grad()
            m(*batch(step))[1].backward()
            o.step()
    torch.testing.assert_close(model(ids, targets)[0], plain(ids, targets)[0], rtol=1e-4, atol=1e-5)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code was run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}, "model_args": {}, "extra": Evil()}, "could run code"),
        ({"weights": {}}, "no checkpoint of nanoGPT"),
        ([1, 2], "no checkpoint of nanoGPT"),
        ({"model": 3, "model_args": {}}, "A dictionary is expected"),
        ({"model": {}, "model_args": 3}, "A dictionary is expected"),
        ({"model": {}, "model_args": {"n_experts": 3}}, "do not fit"),
        ({"model": {}, "model_args": asdict(CONFIG)}, "do not fit"),
    ],
)
def test_other_files_are_refused(
    content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match=message):
        nanogpt.load_checkpoint(tmp_path / "ckpt.pt")
    assert "code was run" not in capsys.readouterr().out
    for junk in (b"", b"junk", b"PK\x03\x04 junk"):
        (tmp_path / "junk.pt").write_bytes(junk)
        with pytest.raises(UserError, match=r"cannot be read|could run code"):
            nanogpt.load_checkpoint(tmp_path / "junk.pt")
    with pytest.raises(UserError, match="missing"):
        nanogpt.load_checkpoint(tmp_path / "absent.pt")


def test_batches_are_those_of_nanogpt(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 23, 200).astype(np.uint16)
    data.tofile(tmp_path / "train.bin")
    torch.manual_seed(7)
    ix = torch.randint(len(data) - 8, (4,))
    x = torch.stack([torch.from_numpy(data[i : i + 8].astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy(data[i + 1 : i + 9].astype(np.int64)) for i in ix])
    for source in (tmp_path / "train.bin", str(tmp_path / "train.bin"), data):
        torch.manual_seed(7)
        found = nanogpt.get_batch(source, 4, 8)
        assert torch.equal(found[0], x)
        assert torch.equal(found[1], y)
    with pytest.raises(UserError, match="no such file"):
        nanogpt.get_batch(tmp_path / "absent.bin", 4, 8)
    for junk in (b"", b"odd"):
        (tmp_path / "junk.bin").write_bytes(junk)
        with pytest.raises(UserError, match="no file of token ids in uint16"):
            nanogpt.get_batch(tmp_path / "junk.bin", 4, 8)


def test_the_loss_is_estimated_in_evaluation_mode() -> None:
    model = nanogpt.GPT(replace(CONFIG, dropout=0.5))
    data = np.tile(np.arange(23, dtype=np.uint16), 9)
    losses = nanogpt.estimate_loss(
        model, {"train": data, "val": data[:40]}, batch_size=4, eval_iters=5
    )
    assert set(losses) == {"train", "val"}
    assert all(loss == pytest.approx(math.log(23), abs=0.2) for loss in losses.values())
    assert model.training
    torch.manual_seed(1)
    one = nanogpt.estimate_loss(model, {"train": data}, batch_size=4, eval_iters=3)
    torch.manual_seed(1)
    assert nanogpt.estimate_loss(model, {"train": data}, batch_size=4, eval_iters=3) == one


def test_the_learning_rate_is_that_of_nanogpt() -> None:
    for it in range(0, 130, 7):
        if it < 10:
            wanted = 1e-3 * (it + 1) / 11
        elif it > 100:
            wanted = 1e-4
        else:
            coeff = 0.5 * (1.0 + math.cos(math.pi * (it - 10) / 90))
            wanted = 1e-4 + coeff * (1e-3 - 1e-4)
        found = nanogpt.get_lr(it, 1e-3, warmup_iters=10, lr_decay_iters=100, min_lr=1e-4)
        assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("it", "settings", "message"),
    [
        (-5, {}, "it is -5"),
        (0, {"warmup_iters": 10, "lr_decay_iters": 5}, "no more warmup_iters than"),
        (0, {"min_lr": -1e-4}, "min_lr -0.0001"),
        (10, {"learning_rate": 0, "warmup_iters": 5}, "learning_rate is 0"),
    ],
)
def test_a_schedule_of_other_numbers_is_refused(
    it: int, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        nanogpt.get_lr(it, **settings)


def test_importing_a_dialect_does_not_slow_the_package() -> None:
    code = (
        "import sys, groundup; print('torch' in sys.modules); from groundup import nanogpt, cs336"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
