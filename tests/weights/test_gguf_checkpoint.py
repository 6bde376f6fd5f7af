"""A quantized file stays as it is in a checkpoint, and opens as float32."""

import json
import time
from pathlib import Path

import pytest
import torch
from gguf_files import write_tiny
from peers import smollm2

from groundup.base.errors import UserError
from groundup.base.files import sha256_file
from groundup.weights.checkpoint_format import (
    load_model,
    model_folders,
    open_model,
    quantized_rows,
    save_gguf_checkpoint,
    save_model,
)
from groundup.weights.gguf import open_gguf


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose only checkpoint has a quantized file."""
    source = tmp_path / "tiny.gguf"
    write_tiny(source, types={"attn": "Q4_1", "token_embd": "Q8_0"})
    folder = tmp_path / "run" / "checkpoints" / "step-000000"
    save_gguf_checkpoint(source, folder, open_gguf(source).config)
    return tmp_path / "run"


def test_the_file_is_kept_bit_by_bit_and_opens_as_float32(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    folder, model = open_model(run)
    assert folder == run / "checkpoints" / "step-000000"
    assert sorted(file.name for file in folder.iterdir()) == ["model.gguf", "model.json"]
    assert (folder / "model.gguf").read_bytes() == source.read_bytes()
    pretrained = open_gguf(source)
    assert model.config == pretrained.config
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad
        assert torch.equal(parameter, pretrained.tensors[name]())
    assert model.head.weight is model.token_embedding.weight
    rows = quantized_rows(folder)
    assert rows is not None
    assert [part.type for part in rows["blocks.0.attention.qkv.weight"]()] == ["Q4_1"] * 3
    model(torch.arange(24)[None]).sum().backward()


def test_a_model_of_ours_has_no_quantized_rows(run: Path, tmp_path: Path) -> None:
    save_model(open_model(run)[1], tmp_path / "ours")
    assert quantized_rows(tmp_path / "ours") is None
    ours, theirs = load_model(tmp_path / "ours"), open_model(run)[1]
    ids = torch.arange(24)[None]
    assert torch.equal(ours(ids), theirs(ids))


def test_every_path_to_it_means_the_same(run: Path) -> None:
    folder = run / "checkpoints" / "step-000000"
    for path in (run, folder, folder / "model.gguf", folder / "model.json"):
        assert model_folders(path) == [folder]


def test_damage_and_missing_files_are_named(run: Path) -> None:
    weights = run / "checkpoints" / "step-000000" / "model.gguf"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="weights are damaged") as caught:
        open_model(run)
    assert caught.value.where == weights
    weights.unlink()
    with pytest.raises(UserError, match="weights are missing"):
        open_model(run)


@pytest.mark.parametrize("weights", [{}, {"../model.gguf": "0"}, {"a": "0", "model.gguf": "0"}])
def test_weights_of_another_name_are_refused(run: Path, weights: dict[str, str]) -> None:
    about = run / "checkpoints" / "step-000000" / "model.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"weights": weights}))
    with pytest.raises(UserError, match=r"model.safetensors or model.gguf is expected"):
        open_model(run)


def test_a_config_that_does_not_fit_names_the_tensor(run: Path) -> None:
    about = run / "checkpoints" / "step-000000" / "model.json"
    changed = json.loads(about.read_text())
    changed["config"]["d_ff"] = 47
    about.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"mlp.up.weight has shape \(96, 32\).*\(94, 32\)"):
        open_model(run)


def test_a_file_outside_of_a_run_is_to_be_imported(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    with pytest.raises(UserError, match="This is a GGUF file") as caught:
        open_model(tmp_path / "tiny.gguf")
    assert caught.value.command == f"groundup import {tmp_path / 'tiny.gguf'}"


@pytest.mark.slow
def test_smollm2_opens_quickly(tmp_path: Path) -> None:
    source = smollm2()
    save_gguf_checkpoint(source, tmp_path, open_gguf(source).config)
    assert sha256_file(tmp_path / "model.gguf") == sha256_file(source)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model = load_model(tmp_path)
        times.append(time.perf_counter() - start)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    # 0.3 to 0.9 s on two cores; the rest is room for a busy machine.
    assert min(times) < 2.0, times
