"""What we write as GGUF is what we computed, and llama.cpp computes the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_cpp import LlamaCpp

from groundup.base.errors import UserError
from groundup.base.gguf import read_gguf_header
from groundup.model.config import GPTConfig, RotaryScaling
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import fill_model
from groundup.weights.gguf import open_gguf
from groundup.weights.gguf_writer import GGUFType, gguf_family, write_gguf

SMALL: dict[str, Any] = {
    "vocab_size": 300, "context_length": 96, "d_model": 32, "n_layers": 2, "n_heads": 4,
    "norm_eps": 1e-5, "init": "gpt2",
}  # fmt: skip
LLAMA: dict[str, Any] = {**SMALL, "qk_norm": False, "n_kv_heads": 2, "d_ff": 64}
LLAMA3 = RotaryScaling(kind="llama3", factor=8.0, original_context=64, high_frequency_factor=4.0)
YARN = RotaryScaling(kind="yarn", factor=4.0, original_context=24, beta_fast=20.0)
MODELS = {
    "gpt2": GPTConfig(
        **SMALL, norm="layer", positions="learned", qk_norm=False, activation="gelu", bias=True,
        qkv_bias=True,
    ),
    "gpt2 without biases of queries": GPTConfig(
        **SMALL, norm="layer", positions="learned", qk_norm=False, activation="gelu", bias=True,
        tie_embeddings=False,
    ),
    "llama": GPTConfig(**LLAMA, rotary_base=500_000.0),
    "llama, interleaved": GPTConfig(**LLAMA, rotary_layout="interleaved", tie_embeddings=False),
    "llama, scaled as Llama 3": GPTConfig(**LLAMA, rotary_scaling=LLAMA3),
    "llama, linear": GPTConfig(**LLAMA, rotary_scaling=RotaryScaling(kind="linear", factor=4.0)),
    "qwen2": GPTConfig(**LLAMA, qkv_bias=True),
    "qwen2, interleaved": GPTConfig(**LLAMA, qkv_bias=True, rotary_layout="interleaved"),
    "qwen3": GPTConfig(**LLAMA | {"qk_norm": True}, d_head=16),
    "qwen3, interleaved": GPTConfig(
        **LLAMA | {"qk_norm": True}, rotary_layout="interleaved", tie_embeddings=False
    ),
    "qwen3, yarn": GPTConfig(**LLAMA | {"qk_norm": True}, rotary_scaling=YARN),
}  # fmt: skip
TOKENIZER: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [chr(0x100 + i) for i in range(298)] + ["ĊĊ", "<|endoftext|>"],
    "tokenizer.ggml.token_type": [1] * 299 + [3],
    "tokenizer.ggml.merges": ["Ċ Ċ"],
    "tokenizer.ggml.eos_token_id": 299,
}  # fmt: skip
EXACT: dict[str, Any] = {"cache_type_k": 0, "cache_type_v": 0, "flash_attn_type": 0}
"""Fields of llama.cpp's parameters: the cache in float32, and plain attention."""


def shaken(config: GPTConfig, seed: int = 1) -> GPT:
    """A model of which every weight changes the logits."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_gain = parameter.ndim == 1 and not name.endswith("bias")
        parameter.data.copy_(0.3 * noise + is_gain)
    return model.eval()


def opened(path: Path) -> GPT:
    pretrained = open_gguf(path)
    model = GPT(pretrained.config)
    fill_model(model, pretrained.tensors, where=path)
    return model.eval()


@torch.no_grad()
def greedy(model: GPT, ids: list[int], n: int) -> list[int]:
    """Continue with the most likely ids, without a cache."""
    found = list(ids)
    for _ in range(n):
        found.append(int(model(torch.tensor([found]))[0, -1].argmax()))
        if found[-1] == 299:
            break
    return found[len(ids) :]


@pytest.mark.parametrize("name", MODELS)
def test_a_file_in_float32_opens_as_the_same_model(tmp_path: Path, name: str) -> None:
    ours = shaken(MODELS[name])
    write_gguf(ours, tmp_path / "out.gguf", general={"name": "tiny", "license": "mit"})
    pretrained, back = open_gguf(tmp_path / "out.gguf"), opened(tmp_path / "out.gguf")
    assert pretrained.license == "mit"
    assert pretrained.family == name.split(",")[0].split(" ")[0] == gguf_family(ours.config)
    ids = torch.arange(96)[None]
    with torch.no_grad():
        # In float64, because other rows of the same matrix are rounded in another order.
        torch.testing.assert_close(back.double()(ids), ours.double()(ids), rtol=1e-9, atol=1e-9)
    if ours.config.rotary_layout == "half" and "without" not in name:
        c = ours.config
        sizes: dict[str, Any] = {
            "d_head": c.head_width,
            "d_ff": c.ff_width,
            "n_kv_heads": c.kv_heads,
        }
        assert back.config == replace(c, **sizes)
        state = back.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["out.gguf"]


QUICK = ("gpt2", "llama", "qwen2", "qwen3")


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_llama_cpp_continues_as_we_do(tmp_path: Path, name: str) -> None:
    ours = shaken(MODELS[name])
    write_gguf(ours, tmp_path / "out.gguf", tokenizer=TOKENIZER)
    theirs = LlamaCpp(tmp_path / "out.gguf", **EXACT)
    generator = torch.Generator().manual_seed(7)
    distinct = set()
    for n_prompt in (1, 8, 40):
        prompt = torch.randint(299, (n_prompt,), generator=generator).tolist()
        expected = greedy(ours, prompt, 48)
        assert theirs.greedy(prompt, 48) == expected
        distinct |= set(expected)
    assert len(distinct) > 10  # a model that repeats itself would prove little


@pytest.mark.parametrize("dtype", ["float16", "q8_0"])
def test_smaller_types_keep_vectors_and_nearly_the_logits(tmp_path: Path, dtype: GGUFType) -> None:
    ours = shaken(MODELS["llama"])
    path = tmp_path / "out.gguf"
    write_gguf(ours, path, dtype=dtype)
    kinds = {name: each.type for name, each in read_gguf_header(path).tensors.items()}
    expected = {"float16": "F16", "q8_0": "Q8_0"}[dtype]
    assert kinds["token_embd.weight"] == kinds["blk.0.attn_q.weight"] == expected
    assert kinds["output_norm.weight"] == "F32"
    back = opened(path)
    for name, value in ours.named_parameters():
        scale = value.abs().max()
        error = (back.get_parameter(name) - value).abs().max() / scale
        assert error <= (0.5 / 127 * 1.01 if dtype == "q8_0" else 2**-11), name


def test_rows_that_no_blocks_fill_are_float16(tmp_path: Path) -> None:
    config = GPTConfig(**LLAMA | {"d_ff": 40})
    write_gguf(shaken(config), tmp_path / "out.gguf", dtype="q8_0")
    kinds = read_gguf_header(tmp_path / "out.gguf").tensors
    assert kinds["blk.0.ffn_down.weight"].type == "F16"
    assert kinds["blk.0.ffn_up.weight"].type == "Q8_0"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "gelu"}, "activation is 'gelu' instead of 'swiglu'"),
        ({"norm": "layer"}, "positions is 'rotary' instead of 'learned'"),
        ({"ngram": 3, "ngram_rows": 64}, "ngram is 3"),
        ({"sliding_window": 8}, "sliding_window is 8"),
        ({"qkv_bias": True, "qk_norm": True}, "qkv_bias is True"),
        ({"qkv_bias": True, "d_head": 16}, "d_head is 16"),
        ({"qk_norm": True, "rotary_scaling": LLAMA3}, "'llama3', which only Llama has"),
        ({"bias": True}, "bias is True"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    model = GPT(GPTConfig(**LLAMA | changes))
    with pytest.raises(UserError, match=said):
        write_gguf(model, tmp_path / "out.gguf")
    assert not list(tmp_path.iterdir())


def test_a_window_as_long_as_the_context_has_no_effect(tmp_path: Path) -> None:
    write_gguf(GPT(GPTConfig(**LLAMA | {"sliding_window": 96})), tmp_path / "out.gguf")


def test_exact_gelu_is_not_that_of_llama_cpp() -> None:
    config = MODELS["gpt2"]
    with pytest.raises(UserError, match="activation is 'gelu-exact' instead of 'gelu'"):
        gguf_family(GPTConfig(**{**vars(config), "activation": "gelu-exact"}))


def test_an_interrupted_call_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensor_data", fail)
    with pytest.raises(UserError, match="No space left"):
        write_gguf(shaken(MODELS["llama"]), tmp_path / "out.gguf")
    assert not list(tmp_path.iterdir())
