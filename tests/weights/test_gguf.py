"""GGUF files open as what they state: against the package gguf, and against transformers."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_files import TOKENS, write_tiny
from peers import peer

from groundup.base.errors import UserError
from groundup.base.gguf import TENSOR_TYPES
from groundup.model.config import RotaryScaling
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import fill_model
from groundup.weights.gguf import open_gguf, raw_blocks
from groundup.weights.gguf_blocks import dequantized
from groundup.weights.gguf_names import FAMILIES
from groundup.weights.gguf_rotary import scaling_of_factors, wavelength_factors

TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def opened(path: Path) -> GPT:
    """The model of a file."""
    pretrained = open_gguf(path)
    model = GPT(pretrained.config)
    fill_model(model, {name: read() for name, read in pretrained.tensors.items()}, where=path)
    return model.eval()


def random_ids() -> torch.Tensor:
    return torch.randint(61, (2, 24), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", [name for name, _, _ in TENSOR_TYPES.values()])
@pytest.mark.parametrize("n_rows", [1, 7, 700])
def test_every_type_has_the_values_of_the_package_gguf(kind: str, n_rows: int) -> None:
    number = gguf.GGMLQuantizationType[kind]
    random = np.random.default_rng(n_rows)
    if kind in ("Q4_K", "Q6_K", "BF16"):  # not quantized there, so any bytes
        bytes_each = {"Q4_K": 144, "Q6_K": 210, "BF16": 512}[kind]
        packed = random.integers(0, 256, (n_rows, 3 * bytes_each), np.uint8)
        packed[:, 1::2] &= 0x3F  # scales are finite
    else:
        packed = gguf.quants.quantize(random.standard_normal((n_rows, 768), np.float32), number)
    expected = gguf.quants.dequantize(packed, number).reshape(n_rows, -1)
    rows = torch.from_numpy(packed.copy().view(np.uint8)).view(n_rows, -1)
    # Each value, bit by bit.
    torch.testing.assert_close(dequantized(rows, kind), torch.from_numpy(expected), rtol=0, atol=0)


def their_model(family: str, folder: Path, **changes: Any) -> Any:
    """The random model of `write_tiny` in transformers, with another way to read the file."""
    transformers = peer("transformers")
    peer("accelerate")
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="tiny.gguf", dtype=torch.float32, **changes
    ).eval()


TOKENIZER: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [1] * 61, "tokenizer.ggml.merges": ["t 0"],
    "tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.bos_token_id": 5,
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_the_logits_of_transformers(
    tmp_path: Path, family: str, tied: bool
) -> None:
    extra: dict[str, Any] = {} if family == "gpt2" else {"rope.freq_base": 500_000.0}
    # transformers does not read these sizes: it takes its defaults, which these are.
    sizes = {"qwen3": {"attention.key_length": 128, "attention.value_length": 128}}
    sizes["gpt2"] = {"feed_forward_length": 128, "context_length": 1024}
    path = tmp_path / "tiny.gguf"
    write_tiny(path, family, tied=tied, metadata=TOKENIZER | extra, sizes=sizes.get(family))
    theirs, ours = their_model(family, tmp_path), opened(path)
    assert open_gguf(path).family == family
    with torch.no_grad():
        logits = ours(random_ids())
        torch.testing.assert_close(logits, theirs(random_ids()).logits, **TOLERANCE)
    assert logits.std() > 0.5  # else equality would prove little


def test_raw_rows_are_those_of_the_values(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    types = {"attn_q": "Q8_0", "attn_k": "Q4_0", "attn_v": "Q4_1", "ffn_gate": "F16"}
    values = write_tiny(path, types=types)
    pretrained, raw = open_gguf(path), raw_blocks(path)
    assert raw.keys() == pretrained.tensors.keys()
    for name, read in raw.items():
        joined = torch.cat([part.values() for part in read()])
        torch.testing.assert_close(joined, pretrained.tensors[name](), rtol=0, atol=0)
    q, k, v = raw["blocks.1.attention.qkv.weight"]()
    assert (q.type, k.type, v.type) == ("Q8_0", "Q4_0", "Q4_1")
    assert q.rows.shape == (32, 34)
    assert (v.rows.shape, v.shape) == ((16, 20), (16, 32))
    # Queries of llama change their order; values do not.
    there = torch.from_numpy(values["blk.1.attn_q.weight"])
    assert torch.equal(q.values()[:8], there[[0, 2, 4, 6, 1, 3, 5, 7]])
    assert torch.equal(v.values(), torch.from_numpy(values["blk.1.attn_v.weight"]))
    assert raw["final_norm.weight"]()[0].rows.shape == (1, 128)


def test_ids_license_and_decimals_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    ends = {"tokenizer.ggml.eot_token_id": 9, "tokenizer.ggml.padding_token_id": 0}
    write_tiny(path, metadata=TOKENIZER | ends | {"general.license": "mit"})
    pretrained = open_gguf(path)
    assert pretrained.special_ids.eos == (7, 9)
    assert pretrained.special_ids.config == {
        "bos_token_id": 5, "eos_token_id": 7, "pad_token_id": 0
    }  # fmt: skip
    assert (pretrained.license, pretrained.config.norm_eps) == ("mit", 1e-5)
    assert pretrained.files == (path,)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"general.architecture": "gemma3"}, "general.architecture is 'gemma3'. gpt2, llama"),
        ({"general.type": "adapter"}, "general.type is 'adapter'"),
        ({"rope.dimension_count": 4}, "llama.rope.dimension_count is 4. 8"),
        ({"attention.value_length": 16}, "llama.attention.value_length is 16"),
        ({"expert_count": 8}, "llama.expert_count is 8"),
        ({"logit_scale": 0.5}, "llama.logit_scale is 0.5"),
        ({"attention.causal": False}, "llama.attention.causal is False"),
        ({"rope.scaling.type": "longrope"}, "llama.rope.scaling.type is 'longrope'"),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.yarn_attn_factor": 2.0,
            },
            "llama.rope.scaling.yarn_attn_factor is 2.0",
        ),
        ({"attention.causal": 0}, "llama.attention.causal is 0"),
        ({"new_invention": 1}, "'llama.new_invention' is not supported"),
        ({"attention.head_count": [4, 2]}, "llama.attention.head_count is array"),
        ({"attention.head_count": "four"}, "llama.attention.head_count is 'four'"),
        ({"attention.layer_norm_rms_epsilon": -1.0}, "rms_epsilon is -1.0"),
        ({"block_count": 3}, "'blk.2.attn_norm.weight' is missing"),
        ({"block_count": 2_000_000_000}, "llama.block_count is 2000000000"),
        ({"vocab_size": 62}, "llama.vocab_size is 62"),
        ({"context_length": None}, "'llama.context_length' is missing"),
        ({"embedding_length": 64}, "The metadata asks for"),
        ({"tokenizer.ggml.eos_token_id": "end"}, "tokenizer.ggml.eos_token_id is 'end'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    tmp_path: Path, metadata: dict[str, Any], said: str
) -> None:
    path = tmp_path / "tiny.gguf"
    family = metadata.get("general.architecture", "llama")
    write_tiny(path, family, metadata={k: v for k, v in metadata.items() if k[-4:] != "ture"})
    with pytest.raises(UserError, match=said) as caught:
        open_gguf(path)
    assert caught.value.where == path


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("blk.1.attn_q.weight", None, "'blk.1.attn_q.weight' is missing"),
        ("token_embd.weight", None, "token_embd.weight is missing"),
        ("blk.0.attn_output.bias", np.zeros(32, np.float32), "'blk.0.attn_output.bias' is not"),
        ("blk.0.attn_k.weight", np.zeros((32, 32), np.float32), r"the shape \(32, 32\).*\(16, 32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, name: str, value: np.ndarray | None, said: str
) -> None:
    write_tiny(tmp_path / "tiny.gguf", tensors={name: value})
    with pytest.raises(UserError, match=said):
        open_gguf(tmp_path / "tiny.gguf")


SCALINGS = [
    ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    ({"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    ({"type": "none", "factor": 4.0}, None),
    (
        {"type": "yarn", "factor": 4.0, "original_context_length": 6, "yarn_beta_fast": 20.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6,
         "beta_fast": 20.0},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "theirs"), SCALINGS)
def test_scalings_of_the_metadata_are_those_of_a_huggingface_folder(
    tmp_path: Path, keys: dict[str, Any], theirs: dict[str, Any] | None
) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny(path, "qwen3", metadata={f"rope.scaling.{name}": v for name, v in keys.items()})
    transformers = peer("transformers", major=5)
    config = transformers.Qwen3Config(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        head_dim=8, max_position_embeddings=24, num_hidden_layers=2, vocab_size=61,
        rope_parameters={"rope_theta": 10_000.0, **(theirs or {"rope_type": "default"})},
    )  # fmt: skip
    rotary = transformers.models.qwen3.modeling_qwen3.Qwen3RotaryEmbedding(config)
    cos, sin = rotary(torch.zeros(1), torch.arange(24)[None])
    ours = opened(path).rotary
    assert ours is not None
    torch.testing.assert_close(ours.cos[:24], cos[0], **TOLERANCE)
    torch.testing.assert_close(ours.sin[:24].abs(), sin[0].abs(), **TOLERANCE)


LLAMA3: dict[str, Any] = {"kind": "llama3", "original_context": 8192, "high_frequency_factor": 4.0}


@pytest.mark.parametrize(
    ("scaling", "d_head", "base"),
    [
        ({**LLAMA3, "factor": 8.0}, 128, 500_000.0),  # Llama 3.1
        ({**LLAMA3, "factor": 32.0}, 64, 500_000.0),  # Llama 3.2 1B
        ({**LLAMA3, "factor": 8.0, "original_context": 3000}, 128, 10_000.0),
        ({**LLAMA3, "factor": 8.0, "high_frequency_factor": 2.5}, 128, 10_000.0),
        ({**LLAMA3, "factor": 8.0, "original_context": 64}, 8, 10_000.0),  # one in between
    ],
)
def test_factors_of_llama3_give_the_settings_back(
    scaling: dict[str, Any], d_head: int, base: float
) -> None:
    settings = RotaryScaling(**scaling)
    factors = wavelength_factors(settings, d_head, base)
    assert scaling_of_factors(factors, d_head, base) == settings


def test_factors_without_a_wavelength_in_between_are_reproduced(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    factors = np.array([1, 1, 8, 8], np.float32)
    write_tiny(path, tensors={"rope_freqs.weight": factors})
    scaling = open_gguf(path).config.rotary_scaling
    assert scaling is not None
    assert wavelength_factors(scaling, 8, 10_000.0).tolist() == factors.tolist()
    near = wavelength_factors(
        RotaryScaling(
            **LLAMA3 | {"factor": 8.0, "original_context": 600, "high_frequency_factor": 2.0}
        ),
        8,
        10_000.0,
    )
    found = scaling_of_factors(near, 8, 10_000.0)
    assert found is not None
    assert wavelength_factors(found, 8, 10_000.0).tolist() == near.tolist() == [1, 1, 8, 8]
    write_tiny(path, tensors={"rope_freqs.weight": np.full(4, 8, np.float32)})
    assert open_gguf(path).config.rotary_scaling == RotaryScaling(kind="linear", factor=8.0)
    write_tiny(path, tensors={"rope_freqs.weight": np.ones(4, np.float32)})
    assert open_gguf(path).config.rotary_scaling is None


@pytest.mark.parametrize("factors", [[8, 1, 8, 1], [1, 2, 3, 4], [np.nan] * 4, [1, 8, 8]])
def test_other_factors_are_refused(tmp_path: Path, factors: list[float]) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny(path, tensors={"rope_freqs.weight": np.array(factors, np.float32)})
    with pytest.raises(UserError, match=r"'rope_freqs.weight'") as caught:
        open_gguf(path)
    assert caught.value.where == path


def test_the_window_is_read(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf", metadata={"attention.sliding_window": 8})
    assert open_gguf(tmp_path / "tiny.gguf").config.sliding_window == 8
    write_tiny(tmp_path / "tiny.gguf", metadata={"attention.sliding_window": 0})
    assert open_gguf(tmp_path / "tiny.gguf").config.sliding_window is None


def test_equal_head_counts_of_all_layers_are_one_number(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf", metadata={"attention.head_count": [4, 4]})
    assert open_gguf(tmp_path / "tiny.gguf").config.n_heads == 4
    json.dumps(open_gguf(tmp_path / "tiny.gguf").special_ids.to_manifest())
