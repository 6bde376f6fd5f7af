"""Scaled rotary frequencies are those of transformers, bit by bit, at any position."""

from typing import Any

import numpy as np
import pytest
import torch
from peers import peer

from groundup.base.config import from_mapping, to_mapping
from groundup.base.errors import UserError
from groundup.model.config import GPTConfig, RotaryScaling
from groundup.model.gpt import GPT
from groundup.model.rotary import RotaryEmbedding, rotary_frequencies, rotary_tables

LLAMA3 = RotaryScaling(kind="llama3", factor=8.0, original_context=8192)
YARN = RotaryScaling(kind="yarn", factor=4.0, original_context=4096)
KINDS = {
    "linear": (RotaryScaling(kind="linear", factor=2.5), {"factor": 2.5}),
    "llama3": (
        LLAMA3,
        {
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "yarn": (YARN, {"factor": 4.0, "original_max_position_embeddings": 4096}),
    "yarn with all settings": (
        RotaryScaling(
            kind="yarn", factor=16.0, original_context=512, beta_fast=20.0, beta_slow=2.0,
            truncate=False, attention_factor=0.9,
        ),
        {
            "factor": 16.0, "original_max_position_embeddings": 512, "beta_fast": 20.0,
            "beta_slow": 2.0, "truncate": False, "attention_factor": 0.9,
        },
    ),
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("d_head", "base"), [(64, 500_000.0), (128, 10_000.0), (8, 1e6)])
def test_the_frequencies_are_those_of_transformers(name: str, d_head: int, base: float) -> None:
    transformers = peer("transformers", major=5)
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours, theirs = KINDS[name]
    kind = name.split()[0]
    config = transformers.LlamaConfig(
        hidden_size=4 * d_head, num_attention_heads=4, max_position_embeddings=65_536,
        rope_parameters={"rope_type": kind, "rope_theta": base, **theirs},
    )  # fmt: skip
    expected, scale = ROPE_INIT_FUNCTIONS[kind](config)
    frequencies, own_scale = rotary_frequencies(d_head, base, ours)
    assert torch.equal(frequencies, expected)
    assert own_scale == pytest.approx(scale, rel=1e-12)
    assert not torch.allclose(frequencies, rotary_frequencies(d_head, base)[0], rtol=1e-3)


@pytest.mark.parametrize("scaling", [None, LLAMA3, YARN])
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_long_contexts_compute_what_a_table_would_hold(scaling: Any, layout: Any) -> None:
    long = RotaryEmbedding(8, 131_072, 500_000.0, layout, scaling)
    assert long.cos.numel() + long.sin.numel() < 300_000
    cos, sin = rotary_tables(20_000, 8, 500_000.0, layout, scaling, exact=True)
    for start, stop in ((0, 16), (16_380, 16_390), (19_990, 20_000)):
        for found, expected in zip(long.between(start, stop), (cos, sin), strict=True):
            assert torch.equal(found, expected[start:stop])
    places = torch.tensor([[3, 19_999], [17_000, 0]])
    for found, expected in zip(long.at(places), (cos, sin), strict=True):
        assert torch.equal(found, expected[places])
    with pytest.raises(IndexError):
        long.at(torch.tensor([131_072]))
    converted = RotaryEmbedding(8, 131_072, 500_000.0, layout, scaling).bfloat16()
    assert torch.equal(converted.between(19_990, 20_000)[0], cos[19_990:20_000].bfloat16())


def test_a_model_reads_beyond_its_table_and_keeps_its_context() -> None:
    config = GPTConfig(
        vocab_size=11, d_model=8, n_layers=1, n_heads=2, context_length=20_000, rotary_scaling=YARN
    )
    assert from_mapping(GPTConfig, to_mapping(config)) == config
    rotary = GPT(config, initialize=False).rotary
    assert rotary is not None
    x = torch.ones(1, 17_000, 4)
    assert torch.equal(rotary(x)[:, :10], rotary(x[:, :10]))
    with pytest.raises(UserError, match="context of 20000"):
        rotary(torch.ones(1, 20_001, 4))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "llama3", "factor": 8.0}, "needs original_context"),
        (
            {"kind": "llama3", "factor": 8.0, "original_context": 8, "low_frequency_factor": 4.0},
            "high_frequency_factor is 4",
        ),
        ({"kind": "linear", "factor": 0.0}, "factor is 0"),
    ],
)
def test_incomplete_scaling_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        RotaryScaling(**settings)


def test_scaling_needs_rotary_positions() -> None:
    with pytest.raises(UserError, match="rotary_scaling needs"):
        GPTConfig(positions="learned", rotary_scaling=YARN)


def test_distant_positions_have_exact_angles() -> None:
    """Float32 angles would be wrong by 0.06 at position 1,500,000."""
    d_head, at = 16, 1_499_999
    powers = rotary_frequencies(d_head, 10_000.0)[0].double().numpy()
    cos, sin = RotaryEmbedding(d_head, at + 1).between(at, at + 1)
    np.testing.assert_allclose(cos[0, :8].numpy(), np.cos(at * powers), atol=1e-6)
    np.testing.assert_allclose(sin[0, 8:].numpy(), np.sin(at * powers), atol=1e-6)
    short = RotaryEmbedding(d_head, 65_536)
    positions = torch.arange(40_000, 40_002, dtype=torch.float32)
    angles = positions[:, None] * rotary_frequencies(d_head, 10_000.0)[0]
    assert torch.equal(short.between(40_000, 40_002)[0][:, :8], angles.cos())  # as ever
