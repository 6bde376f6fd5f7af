"""The Llama family in the Hugging Face format: Llama, Mistral, Qwen2 and Qwen3.

Besides the names, two things differ from our models. Their query, key and value matrices (and the
two of the gated MLP) are separate; ours are one matrix. Their heads use the "half" rotary layout;
the dimensions of an interleaved head are permuted on export, which does not change the scores,
because a score is a sum over all pairs of dimensions.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import stored_tensors
from groundup.weights.llama_config import family_of
from groundup.weights.sources import Source

# Our name and their name, for tensors that correspond one to one.
LAYER_NAMES = (
    ("attention_norm.weight", "input_layernorm.weight"),
    ("attention.out.weight", "self_attn.o_proj.weight"),
    ("attention.out.bias", "self_attn.o_proj.bias"),
    ("attention.query_gain", "self_attn.q_norm.weight"),
    ("attention.key_gain", "self_attn.k_norm.weight"),
    ("mlp_norm.weight", "post_attention_layernorm.weight"),
    ("mlp.down.weight", "mlp.down_proj.weight"),
    ("mlp.down.bias", "mlp.down_proj.bias"),
)
TOP_NAMES = (
    ("token_embedding.weight", "model.embed_tokens.weight"),
    ("final_norm.weight", "model.norm.weight"),
)
QKV = ("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj.")
GATE_UP = ("mlp.gate_proj.", "mlp.up_proj.")


def write_tensors(model: GPT) -> dict[str, Tensor]:
    """Return the weights of the model under the names of its family."""
    config, ours = model.config, stored_tensors(model)
    H, G, D = config.n_heads, config.kv_heads, config.head_width
    has_qkv_bias = config.bias or family_of(config) == "qwen2"
    # In the interleaved layout the members of a pair are adjacent. The half layout has all first
    # members, then all second members.
    order = torch.arange(D)
    if config.rotary_layout == "interleaved":
        order = torch.cat((order[0::2], order[1::2]))
    theirs = {their: ours[our] for our, their in TOP_NAMES}
    for layer in range(config.n_layers):
        here, there = f"blocks.{layer}.", f"model.layers.{layer}."
        for our, their in LAYER_NAMES:
            tensor = ours.get(here + our)
            if tensor is None:  # gains of queries and keys, and biases, which few families have
                continue
            theirs[there + their] = tensor[order] if our.endswith("_gain") else tensor
        for kind in ("weight", "bias"):
            joined = ours.get(f"{here}attention.qkv.{kind}")
            if joined is None and kind == "bias" and has_qkv_bias:
                joined = torch.zeros((H + 2 * G) * D)
            if joined is not None:
                heads = joined.reshape(H + 2 * G, D, *joined.shape[1:])
                queries, keys, values = torch.split(heads, [H, G, G])  # (heads, D, ...) each
                parts = (queries[:, order], keys[:, order], values)
                for name, part in zip(QKV, parts, strict=True):
                    theirs[there + name + kind] = part.flatten(0, 1).clone()
            joined = ours.get(f"{here}mlp.up.{kind}")
            if joined is not None:
                for name, part in zip(GATE_UP, joined.chunk(2), strict=True):
                    theirs[there + name + kind] = part.clone()
    if not config.tie_embeddings:
        theirs["lm_head.weight"] = ours["head.weight"]
    return theirs


def sources(config: GPTConfig, about: Mapping[str, Any]) -> Iterator[Source]:
    """List the tensors of a file that our parameters are made of.

    Args:
        config: The architecture.
        about: Their config.json, which states which of the biases are in the file.
    """
    C, D, F, V = config.d_model, config.head_width, config.ff_width, config.vocab_size
    rows = (config.n_heads * D, config.kv_heads * D, config.kv_heads * D)
    attention_bias, mlp_bias = (bool(about.get(n)) for n in ("attention_bias", "mlp_bias"))
    theirs = {
        "attention.out.weight": (C, config.n_heads * D), "mlp.down.weight": (C, F),
        "attention.query_gain": (D,), "attention.key_gain": (D,),
    }  # fmt: skip
    yield Source(TOP_NAMES[0][0], ((TOP_NAMES[0][1], (V, C)),))
    yield Source(TOP_NAMES[1][0], ((TOP_NAMES[1][1], (C,)),))
    for layer in range(config.n_layers):
        here, there = f"blocks.{layer}.", f"model.layers.{layer}."
        for our, their in LAYER_NAMES:
            is_bias = our.endswith(".bias")
            if (is_bias and not config.bias) or (our.endswith("_gain") and not config.qk_norm):
                continue
            is_there = not is_bias or (mlp_bias if our.startswith("mlp") else attention_bias)
            part = (there + their, theirs.get(our, (C,)))
            yield Source(here + our, (part,) if is_there else ())
        joined = [(f"{there}{n}weight", (r, C)) for n, r in zip(QKV, rows, strict=True)]
        yield Source(f"{here}attention.qkv.weight", tuple(joined))
        if config.qkv_bias:
            biases = [(f"{there}{n}bias", (r,)) for n, r in zip(QKV, rows, strict=True)]
            yield Source(f"{here}attention.qkv.bias", tuple(biases))
        yield Source(
            f"{here}mlp.up.weight", tuple((f"{there}{name}weight", (F, C)) for name in GATE_UP)
        )
        if config.bias:
            biases = [(f"{there}{name}bias", (F,)) for name in GATE_UP]
            yield Source(f"{here}mlp.up.bias", tuple(biases) if mlp_bias else ())
    if not config.tie_embeddings:
        yield Source("head.weight", (("lm_head.weight", (V, C)),))


def their_name(name: str) -> str | None:
    """Return the name; None for the rotary frequencies, which old files contain."""
    return None if name.endswith("rotary_emb.inv_freq") else name
