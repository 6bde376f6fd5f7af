"""The Llama family in the Hugging Face format: Llama, and Qwen3 (Llama with QK norm).

Besides the names, two things differ from our models. Their query, key and value matrices (and the
two of the gated MLP) are separate; ours are one matrix. Their heads use the "half" rotary layout;
the dimensions of an interleaved head are permuted on export, which does not change the scores,
because a score is a sum over all pairs of dimensions.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import stored_tensors

# Our name and their name, for tensors that correspond one to one.
LAYER_NAMES = (
    ("attention_norm.weight", "input_layernorm.weight"),
    ("attention.out.weight", "self_attn.o_proj.weight"),
    ("attention.query_gain", "self_attn.q_norm.weight"),
    ("attention.key_gain", "self_attn.k_norm.weight"),
    ("mlp_norm.weight", "post_attention_layernorm.weight"),
    ("mlp.down.weight", "mlp.down_proj.weight"),
)
TOP_NAMES = (
    ("token_embedding.weight", "model.embed_tokens.weight"),
    ("final_norm.weight", "model.norm.weight"),
)
QKV = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight")
GATE_UP = ("mlp.gate_proj.weight", "mlp.up_proj.weight")


def is_llama(config: GPTConfig) -> bool:
    """Whether it is Llama's (Qwen3's with `qk_norm`), apart from what no family has."""
    return (
        config.norm == "rms"
        and config.positions == "rotary"
        and config.activation == "swiglu"
        and not config.bias
        and not config.qkv_bias
        # transformers requires this for Llama even if head_dim is given.
        and (config.qk_norm or config.d_model % config.n_heads == 0)
    )


def write_config(config: GPTConfig) -> dict[str, Any]:
    """Build the config.json of a Llama model, or of Qwen3 with QK norm."""
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "intermediate_size": config.ff_width,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        # transformers 4 and older read the first, transformers 5 and newer the second.
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "attention_bias": False,
        "attention_dropout": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        **({"use_sliding_window": False} if config.qk_norm else {"mlp_bias": False}),
    }


def read_config(about: dict[str, Any], *, where: Path) -> GPTConfig:
    """Build a GPTConfig from the config.json of Llama or Qwen3.

    Raises:
        UserError: The config describes a variant that GPT does not implement: biases, scaled
            rotary positions, or a sliding window.
    """
    for switch in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if about.get(switch):
            raise UserError(f"{switch} is on. Models with it are not supported.", where=where)
    if about.get("hidden_act", "silu") != "silu":
        raise UserError(
            f"hidden_act is {about['hidden_act']!r}. Only silu is supported.", where=where
        )
    rope = about.get("rope_parameters") or about.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(
            f"The rotary positions are scaled by the {kind!r} rule. Only unscaled rotary positions "
            "are supported.",
            where=where,
        )
    base = rope.get("rope_theta", about.get("rope_theta", 10_000.0))
    n_heads = about["num_attention_heads"]
    return GPTConfig.llama(
        vocab_size=about["vocab_size"],
        context_length=about["max_position_embeddings"],
        d_model=about["hidden_size"],
        n_layers=about["num_hidden_layers"],
        n_heads=n_heads,
        n_kv_heads=about.get("num_key_value_heads") or n_heads,
        d_head=about.get("head_dim") or about["hidden_size"] // n_heads,
        d_ff=about["intermediate_size"],
        norm_eps=about.get("rms_norm_eps", 1e-6),
        rotary_base=float(base),
        qk_norm=about["model_type"] == "qwen3",
        tie_embeddings=about.get("tie_word_embeddings", False),
    )


def write_tensors(model: GPT) -> dict[str, Tensor]:
    """Return the weights of the model under Llama's names."""
    config, ours = model.config, stored_tensors(model)
    H, G, D = config.n_heads, config.kv_heads, config.head_width
    # In the interleaved layout the members of a pair are adjacent. The half layout has all first
    # members, then all second members.
    order = torch.arange(D)
    if config.rotary_layout == "interleaved":
        order = torch.cat((order[0::2], order[1::2]))
    theirs = {their: ours[our] for our, their in TOP_NAMES}
    for layer in range(config.n_layers):
        for our, their in LAYER_NAMES:
            tensor = ours.get(f"blocks.{layer}.{our}")
            if tensor is None:  # only Qwen3 has gains for queries and keys
                continue
            theirs[f"model.layers.{layer}.{their}"] = (
                tensor[order] if our.endswith("_gain") else tensor
            )
        heads = ours[f"blocks.{layer}.attention.qkv.weight"].view(H + 2 * G, D, config.d_model)
        queries, keys, values = torch.split(heads, [H, G, G])  # (heads, D, C) each
        for name, part in zip(QKV, (queries[:, order], keys[:, order], values), strict=True):
            theirs[f"model.layers.{layer}.{name}"] = part.flatten(0, 1).clone()
        for name, part in zip(GATE_UP, ours[f"blocks.{layer}.mlp.up.weight"].chunk(2), strict=True):
            theirs[f"model.layers.{layer}.{name}"] = part.clone()
    if not config.tie_embeddings:
        theirs["lm_head.weight"] = ours["head.weight"]
    return theirs


def read_tensors(theirs: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Return Llama's weights under our names. Unknown names stay, and `fill_model` reports them."""
    left = dict(theirs)
    ours = {}

    def take(our: str, *names: str) -> None:
        if all(name in left for name in names):
            parts = [left.pop(name) for name in names]
            ours[our] = parts[0] if len(parts) == 1 else torch.cat(parts)

    for our, their in TOP_NAMES:
        take(our, their)
    for layer in range(config.n_layers):
        there = f"model.layers.{layer}."
        for our, their in LAYER_NAMES:
            take(f"blocks.{layer}.{our}", there + their)
        take(f"blocks.{layer}.attention.qkv.weight", *(there + name for name in QKV))
        take(f"blocks.{layer}.mlp.up.weight", *(there + name for name in GATE_UP))
    if config.tie_embeddings:
        left.pop("lm_head.weight", None)  # some files contain a copy of the tied head
    else:
        take("head.weight", "lm_head.weight")
    # Old files also contain the rotary frequencies, which follow from the config.
    ours.update({n: t for n, t in left.items() if not n.endswith("rotary_emb.inv_freq")})
    return ours
