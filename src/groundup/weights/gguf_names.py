"""Names and order of tensors in GGUF files: which of them make up each of our parameters.

A file has separate matrices for queries, keys and values, and for the two halves of a gated MLP;
ours are one matrix each, with the rows of one after those of the other. In files of the llama
architecture the rows of queries and keys are in the interleaved rotary layout: dimensions 2i and
2i + 1 of a head form a pair. The other architectures have the half layout, as our models do.

Source: https://github.com/ggml-org/llama.cpp/tree/master/conversion, gpt2.py, llama.py, qwen.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.model.config import GPTConfig

FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")
"""The architectures that are supported. Files of Mistral models state llama."""
ROPE_FREQS = "rope_freqs.weight"
"""A tensor of the llama architecture: the factors by which wavelengths were scaled."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A tensor of a file, and what it is in our parameter."""

    name: str
    shape: tuple[int, ...]
    interleaved_heads: int = 0
    """Number of heads whose rows are in the interleaved layout. 0: the rows are in our order."""

    def order(self) -> Tensor | None:
        """Row of the file for each of our rows; None if the order is the same.

        >>> Part(name="attn_q", shape=(8, 5), interleaved_heads=2).order()
        tensor([0, 2, 1, 3, 4, 6, 5, 7])
        """
        if not self.interleaved_heads:
            return None
        rows = torch.arange(self.shape[0]).view(self.interleaved_heads, -1, 2)
        return rows.transpose(1, 2).reshape(-1)


def parts_of(config: GPTConfig, family: str) -> Mapping[str, tuple[Part, ...]]:
    """List the tensors of a file for each of our parameters, in the order of their rows."""
    C, F, D = config.d_model, config.ff_width, config.head_width
    Q, K = config.n_heads * D, config.kv_heads * D
    of: dict[str, tuple[Part, ...]] = {}

    def add(our: str, *names: str, shapes: tuple[tuple[int, ...], ...]) -> None:
        of[our] = tuple(
            Part(name=name, shape=shape) for name, shape in zip(names, shapes, strict=True)
        )

    def add_norm(our: str, their: str) -> None:
        for kind in ("weight", "bias") if config.norm == "layer" else ("weight",):
            add(f"{our}.{kind}", f"{their}.{kind}", shapes=((C,),))

    add("token_embedding.weight", "token_embd.weight", shapes=((config.vocab_size, C),))
    if config.positions == "learned":
        position = (config.context_length, C)
        add("position_embedding.weight", "position_embd.weight", shapes=(position,))
    for layer in range(config.n_layers):
        our, their = f"blocks.{layer}", f"blk.{layer}"
        add_norm(f"{our}.attention_norm", f"{their}.attn_norm")
        for kind in ("weight", "bias") if config.qkv_bias else ("weight",):
            end = (C,) if kind == "weight" else ()
            if family == "gpt2":
                of[f"{our}.attention.qkv.{kind}"] = (
                    Part(name=f"{their}.attn_qkv.{kind}", shape=(Q + 2 * K, *end)),
                )
                continue
            heads = (config.n_heads, config.kv_heads, 0) if family == "llama" else (0, 0, 0)
            of[f"{our}.attention.qkv.{kind}"] = tuple(
                Part(name=f"{their}.attn_{each}.{kind}", shape=(rows, *end), interleaved_heads=n)
                for each, rows, n in zip("qkv", (Q, K, K), heads, strict=True)
            )
        if config.qk_norm:
            add(f"{our}.attention.query_gain", f"{their}.attn_q_norm.weight", shapes=((D,),))
            add(f"{our}.attention.key_gain", f"{their}.attn_k_norm.weight", shapes=((D,),))
        add(f"{our}.attention.out.weight", f"{their}.attn_output.weight", shapes=((C, Q),))
        add_norm(f"{our}.mlp_norm", f"{their}.ffn_norm")
        if config.activation == "swiglu":
            names = (f"{their}.ffn_gate.weight", f"{their}.ffn_up.weight")
            add(f"{our}.mlp.up.weight", *names, shapes=((F, C), (F, C)))
        else:
            add(f"{our}.mlp.up.weight", f"{their}.ffn_up.weight", shapes=((F, C),))
        add(f"{our}.mlp.down.weight", f"{their}.ffn_down.weight", shapes=((C, F),))
        if config.bias:
            add(f"{our}.attention.out.bias", f"{their}.attn_output.bias", shapes=((C,),))
            add(f"{our}.mlp.up.bias", f"{their}.ffn_up.bias", shapes=((F,),))
            add(f"{our}.mlp.down.bias", f"{their}.ffn_down.bias", shapes=((C,),))
    add_norm("final_norm", "output_norm")
    if not config.tie_embeddings:
        add("head.weight", "output.weight", shapes=((config.vocab_size, C),))
    return of
