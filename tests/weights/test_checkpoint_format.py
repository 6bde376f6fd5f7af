"""Our own files: the same numbers back, and every damage named."""

import json
from pathlib import Path

import pytest
import torch

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import (
    load_model,
    model_folders,
    open_model,
    save_model,
)

CONFIG = GPTConfig(vocab_size=20, context_length=8, d_model=16, n_layers=2, n_heads=2)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_a_saved_model_comes_back_to_the_bit(tmp_path: Path, tie_embeddings: bool) -> None:
    config = GPTConfig(
        vocab_size=20, d_model=16, n_layers=1, n_heads=2, tie_embeddings=tie_embeddings
    )
    model = GPT(config, seed=5)
    save_model(model, tmp_path / "new" / "folder")
    back = load_model(tmp_path / "new" / "folder")
    assert back.config == config
    assert (back.head.weight is back.token_embedding.weight) == tie_embeddings
    state = back.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    save_model(GPT(CONFIG), tmp_path)
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        load_model(tmp_path)


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no model here"):
        load_model(tmp_path)
    save_model(GPT(CONFIG), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="weights are missing"):
        load_model(tmp_path)


def test_a_config_that_does_not_fit_names_the_tensor(tmp_path: Path) -> None:
    save_model(GPT(CONFIG), tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    about["config"]["vocab_size"] = 21
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"token_embedding.weight has shape \(20, 16\)"):
        load_model(tmp_path)
    about["config"] |= {"vocab_size": 20, "n_layers": 3}
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"blocks.2"):
        load_model(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    save_model(GPT(CONFIG), tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**about, "version": 99}))
    with pytest.raises(UserError, match="version 99"):
        load_model(tmp_path)


def test_the_best_checkpoint_of_a_run_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no model here"):
        open_model(tmp_path)
    checkpoints = tmp_path / "checkpoints"
    newest = checkpoints / "step-000010"
    save_model(GPT(CONFIG), newest)
    assert open_model(tmp_path)[0] == newest, "without pointers the newest"
    (checkpoints / "latest").write_text("step-000010\n")
    inside = (tmp_path, newest, checkpoints, newest / "model.json", checkpoints / "latest")
    for path in inside:
        assert open_model(path)[0] == newest, path
    older = checkpoints / "step-000005"
    save_model(GPT(CONFIG), older)
    (checkpoints / "best").write_text("step-000005\n")
    assert model_folders(tmp_path) == [older, newest]
    assert open_model(newest)[0] == newest, "a checkpoint that is named is opened itself"
    (checkpoints / "best").write_text("step-000011\n")
    assert open_model(tmp_path)[0] == newest


def test_a_damaged_checkpoint_is_named_and_the_next_is_opened(tmp_path: Path, caplog) -> None:
    folders = [tmp_path / "checkpoints" / f"step-{step:06d}" for step in (30, 20, 10)]
    for folder in folders:
        save_model(GPT(CONFIG), folder)
    (tmp_path / "checkpoints" / "best").write_text("step-000020\n")
    (folders[1] / "model.safetensors").write_bytes(b"")
    assert open_model(tmp_path)[0] == folders[0]
    assert str(folders[1]) in caplog.text
    assert "step-000030 is tried instead" in caplog.text
    with pytest.raises(UserError, match="damaged"):
        open_model(folders[1])
    (folders[0] / "model.json").unlink()
    (folders[0] / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no model here"):
        open_model(folders[0])
    (folders[2] / "model.json").write_text("{}")
    with pytest.raises(UserError, match=r"step-000010.*format is None"):
        open_model(tmp_path)


@pytest.mark.parametrize("part", [None, "weights", "config"])
def test_a_description_that_holds_nothing_is_damaged(part: str | None, tmp_path: Path) -> None:
    save_model(GPT(CONFIG), tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(part and {**about, part: None}))
    with pytest.raises(UserError, match=r"model\.json"):
        load_model(tmp_path)
