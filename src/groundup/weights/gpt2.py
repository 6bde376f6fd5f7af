"""GPT-2 in the Hugging Face format: parameter names, config, and transposed matrices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import stored_tensors
from groundup.weights.sources import Source

# Our name, their name, and whether theirs is transposed: GPT-2 computes x @ W ("Conv1D").
LAYER_NAMES = (
    ("attention_norm.weight", "ln_1.weight", False),
    ("attention_norm.bias", "ln_1.bias", False),
    ("attention.qkv.weight", "attn.c_attn.weight", True),
    ("attention.qkv.bias", "attn.c_attn.bias", False),
    ("attention.out.weight", "attn.c_proj.weight", True),
    ("attention.out.bias", "attn.c_proj.bias", False),
    ("mlp_norm.weight", "ln_2.weight", False),
    ("mlp_norm.bias", "ln_2.bias", False),
    ("mlp.up.weight", "mlp.c_fc.weight", True),
    ("mlp.up.bias", "mlp.c_fc.bias", False),
    ("mlp.down.weight", "mlp.c_proj.weight", True),
    ("mlp.down.bias", "mlp.c_proj.bias", False),
)
ACTIVATIONS: dict[str, str] = {"gelu": "gelu_new", "gelu-exact": "gelu"}
"""Our names of the activation, and theirs."""
TOP_NAMES = (
    ("token_embedding.weight", "wte.weight"),
    ("position_embedding.weight", "wpe.weight"),
    ("final_norm.weight", "ln_f.weight"),
    ("final_norm.bias", "ln_f.bias"),
)


def is_gpt2(config: GPTConfig) -> bool:
    """Whether the architecture is GPT-2's, apart from what no family has (`can_export`)."""
    return (
        config.norm == "layer"
        and config.positions == "learned"
        and config.activation in ACTIVATIONS
        and config.bias
        and not config.qk_norm
        and config.kv_heads == config.n_heads
        and config.head_width * config.n_heads == config.d_model
        and set(config.kinds) == {"g"}
    )


def write_config(config: GPTConfig) -> dict[str, Any]:
    """Build the config.json of a GPT-2 model."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.ff_width,
        "activation_function": ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


def read_config(about: dict[str, Any], *, where: Path) -> GPTConfig:
    """Build a GPTConfig from GPT-2's config.json. Dropout is 0, because it is a training setting.

    Raises:
        UserError: The config describes a variant that GPT does not implement.
    """
    activation = about.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh", "gelu"):
        raise UserError(
            f"activation_function is {activation!r}. Expected gelu_new, gelu_pytorch_tanh or gelu.",
            where=where,
        )
    return GPTConfig(
        vocab_size=about["vocab_size"],
        context_length=about["n_positions"],
        d_model=about["n_embd"],
        n_layers=about["n_layer"],
        n_heads=about["n_head"],
        d_ff=about.get("n_inner"),
        norm="layer",
        norm_eps=about.get("layer_norm_epsilon", 1e-5),
        positions="learned",
        qk_norm=False,
        activation="gelu-exact" if activation == "gelu" else "gelu",
        bias=True,
        qkv_bias=True,
        tie_embeddings=about.get("tie_word_embeddings", True),
        init="gpt2",
    )


def write_tensors(model: GPT) -> dict[str, Tensor]:
    """Return the weights of the model under GPT-2's names."""
    ours = stored_tensors(model)
    theirs = {f"transformer.{their}": ours[our] for our, their in TOP_NAMES}
    for layer in range(model.config.n_layers):
        for our, their, transposed in LAYER_NAMES:
            tensor = ours.get(f"blocks.{layer}.{our}")
            if tensor is None:
                # GPT-2 always has biases for queries, keys and values: zero for a model without.
                tensor = torch.zeros(3 * model.config.d_model)
            theirs[f"transformer.h.{layer}.{their}"] = (
                tensor.t().contiguous() if transposed else tensor
            )
    if not model.config.tie_embeddings:
        theirs["lm_head.weight"] = ours["head.weight"]
    return theirs


def sources(config: GPTConfig) -> Iterator[Source]:
    """List the tensors of a GPT-2 file that our parameters are made of."""
    C, F = config.d_model, config.ff_width
    theirs = {
        "wte.weight": (config.vocab_size, C), "wpe.weight": (config.context_length, C),
        "attn.c_attn.weight": (C, 3 * C), "attn.c_attn.bias": (3 * C,),
        "attn.c_proj.weight": (C, C), "mlp.c_fc.weight": (C, F), "mlp.c_fc.bias": (F,),
        "mlp.c_proj.weight": (F, C),
    }  # fmt: skip
    for our, their in TOP_NAMES:
        yield Source(our, ((their, theirs.get(their, (C,))),))
    for layer in range(config.n_layers):
        for our, their, transposed in LAYER_NAMES:
            part = (f"h.{layer}.{their}", theirs.get(their, (C,)))
            yield Source(f"blocks.{layer}.{our}", (part,), transposed=transposed)
    if not config.tie_embeddings:
        yield Source("head.weight", (("lm_head.weight", (config.vocab_size, C)),))


def their_name(name: str) -> str | None:
    """Return the name without its prefix; None for the causal mask, which old files contain."""
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    return name.removeprefix("transformer.")
