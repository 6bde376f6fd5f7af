"""The values of a quantized tensor are judged by its scales, with the same result."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.base.gguf import TENSOR_TYPES
from groundup.base.gguf import read_gguf_header as read_header
from groundup.evaluation.pretrained import import_pretrained
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import open_model
from groundup.weights.config import ImportConfig
from groundup.weights.gguf import RawRows, open_gguf
from groundup.weights.gguf_writer import write_gguf
from groundup.weights.write_checkpoint import _can_be_infinite, write_checkpoint

TYPES = {name: (values, n_bytes) for name, values, n_bytes in TENSOR_TYPES.values()}


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_values_are_finite_if_and_only_if_the_scales_are(kind: str, seed: int) -> None:
    values, n_bytes = TYPES[kind]
    blocks = 1 if values > 1 else 8
    raw = np.random.default_rng(seed).integers(0, 256, (2, blocks * n_bytes), dtype=np.uint8)
    rows = torch.from_numpy(raw)
    if seed % 2:  # random bytes are rarely infinite
        rows[0, :2] = torch.tensor([[0, 0x7C], [1, 0xFE]][seed % 4 // 2], dtype=torch.uint8)
    part = RawRows(type=kind, shape=(2, blocks * values), rows=rows)
    assert bool(_can_be_infinite(part).isfinite().all()) == bool(part.values().isfinite().all())


def small_gguf(path: Path) -> GPT:
    config = GPTConfig.llama(
        vocab_size=32, context_length=16, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=64
    )
    model = GPT(config, seed=1)
    write_gguf(model, path, dtype="q8_0", general={"license": "mit"})
    return model


def test_a_gguf_file_stays_as_it_is_and_a_damaged_block_is_named(tmp_path: Path) -> None:
    small_gguf(tmp_path / "a.gguf")
    header = read_header(tmp_path / "a.gguf")
    write_checkpoint(open_gguf(tmp_path / "a.gguf"), tmp_path / "one", header=header)
    content = (tmp_path / "a.gguf").read_bytes()
    assert (tmp_path / "one" / "model.gguf").read_bytes() == content
    hashes = json.loads((tmp_path / "one" / "tensors.json").read_text())["sha256"]
    down = header.tensors["blk.0.ffn_down.weight"]
    stored = content[down.start : down.start + down.n_bytes]
    assert hashes["blk.0.ffn_down.weight"] == hashlib.sha256(stored).hexdigest()
    assert down.type == "Q8_0"
    damaged = bytearray(content)
    damaged[down.start + 34 : down.start + 36] = b"\x00\x7e"  # NaN, the scale of the second block
    (tmp_path / "b.gguf").write_bytes(damaged)
    with pytest.raises(UserError, match=r"blocks.0.mlp.down.weight has NaN or infinite"):
        write_checkpoint(open_gguf(tmp_path / "b.gguf"), tmp_path / "two", header=header)


def test_a_gguf_file_without_a_tokenizer_is_imported(tmp_path: Path) -> None:
    model = small_gguf(tmp_path / "a.gguf")
    result = import_pretrained(ImportConfig(source=tmp_path / "a.gguf", out=tmp_path / "run"))
    assert (result.model_type, result.license) == ("llama", "mit")
    assert not result.has_tokenizer
    opened = open_model(tmp_path / "run")[1]
    expected = model.token_embedding.weight
    torch.testing.assert_close(opened.token_embedding.weight, expected, rtol=0.02, atol=1e-3)
