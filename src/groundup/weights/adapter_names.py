"""Where the adapters of peft belong in our models: their module, and the rows of our weight."""

from typing import NamedTuple

import torch
from torch import Tensor

from groundup.model.config import GPTConfig
from groundup.weights.gpt2 import is_gpt2

PREFIX = "base_model.model."
"""Before every name in an adapter file."""


class Place(NamedTuple):
    """A linear map as peft has it."""

    module: str
    """Its module in transformers: model.layers.0.self_attn.q_proj."""
    suffix: str
    """The end of that name which is the same in every layer."""
    layer: str
    """Our linear map that contains it: blocks.0.attention.qkv."""
    start: int
    """Its first row in the weight of our linear map."""
    stop: int
    n_columns: int


def places(config: GPTConfig) -> dict[str, Place]:
    """List the linear maps of a model by the names of their modules in transformers.

    A model of no family of transformers has the names of Llama, and its gated delta rules the names
    of linear attention.
    """
    D, C, F = config.head_width, config.d_model, config.ff_width
    queries, keys = config.n_heads * D, config.kv_heads * D
    if is_gpt2(config):
        start, rows = "transformer.h", [
            ("attn.c_attn", "attention.qkv", 0, queries + 2 * keys, C),
            ("attn.c_proj", "attention.out", 0, C, queries),
            ("mlp.c_fc", "mlp.up", 0, F, C),
            ("mlp.c_proj", "mlp.down", 0, C, F),
        ]  # fmt: skip
    else:
        gate = F if config.activation == "swiglu" else 0
        start, rows = "model.layers", [
            ("self_attn.q_proj", "attention.qkv", 0, queries, C),
            ("self_attn.k_proj", "attention.qkv", queries, queries + keys, C),
            ("self_attn.v_proj", "attention.qkv", queries + keys, queries + 2 * keys, C),
            ("self_attn.o_proj", "attention.out", 0, C, queries),
            *([("mlp.gate_proj", "mlp.up", 0, F, C)] if gate else []),
            ("mlp.up_proj", "mlp.up", gate, gate + F, C),
            ("mlp.down_proj", "mlp.down", 0, C, F),
        ]  # fmt: skip
    delta = [
        ("linear_attn.q_proj", "delta.inputs", 0, queries, C),
        ("linear_attn.k_proj", "delta.inputs", queries, 2 * queries, C),
        ("linear_attn.v_proj", "delta.inputs", 2 * queries, 3 * queries, C),
        ("linear_attn.out_proj", "delta.out", 0, C, queries),
        *(row for row in rows if row[1].startswith("mlp.")),
    ]
    found = (
        Place(f"{start}.{i}.{name}", name, f"blocks.{i}.{ours}", first, last, n_columns)
        for i, kind in enumerate(config.kinds)
        for name, ours, first, last, n_columns in (delta if kind == "d" else rows)
    )
    return {place.module: place for place in found}


def order_of_rows(config: GPTConfig, place: Place) -> Tensor | None:
    """Return which of our rows each row of peft is; None where the order is the same.

    transformers rotates the first half of a head with the second; the interleaved layout rotates
    neighbors.
    """
    is_rotated = place.suffix in ("self_attn.q_proj", "self_attn.k_proj")
    if not is_rotated or config.rotary_layout == "half" or config.positions != "rotary":
        return None
    order = torch.arange(place.stop - place.start).view(-1, config.head_width // 2, 2)
    return order.transpose(1, 2).flatten()
