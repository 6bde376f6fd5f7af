"""The config.json of Llama, Mistral, Qwen2 and Qwen3, from and to ours.

Every entry that changes what transformers computes is honored or refused by its name. An entry that
is absent has the default of the family's class in transformers.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig, RotaryScaling
from groundup.weights.layer_patterns import without_pattern

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""The families, and their classes in transformers."""
_KV_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
_SLIDING = "sliding_attention"
_MOST_LAYERS = 10_000
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
_ROPE_ENTRIES = {
    *("rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"),
    *("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor"),
    *("mscale", "mscale_all_dim", "truncate", "finetuned"),
}


def family_of(config: GPTConfig) -> str | None:
    """Name of the family whose class computes a model with this config; None if there is none.

    >>> family_of(GPTConfig()), family_of(GPTConfig(qk_norm=False))
    ('qwen3', 'llama')
    """
    plain = without_pattern(config)
    if plain is None:
        return None
    config = plain
    is_of_kind = (
        config.norm == "rms" and config.positions == "rotary" and config.activation == "swiglu"
    )
    if not is_of_kind or (config.bias and (config.qk_norm or config.sliding_window is not None)):
        return None
    if config.qk_norm:
        # Its one switch adds biases to the output projection, too.
        return None if config.qkv_bias else "qwen3"
    if config.qkv_bias and not config.bias:
        return "qwen2"
    # transformers requires this of Llama even if head_dim is given.
    is_even = config.d_model % config.n_heads == 0
    if config.sliding_window is not None:
        return "mistral" if config.sliding_layers is None else "qwen2"
    return "llama" if is_even else None


def write_config(config: GPTConfig) -> dict[str, Any]:
    """Build the config.json of the family of a model."""
    family, plain = family_of(config), without_pattern(config)
    assert family is not None
    assert plain is not None
    config = plain
    window = config.sliding_window
    if family == "llama":
        more: dict[str, Any] = {"attention_bias": config.bias, "mlp_bias": config.bias}
    elif family == "mistral":
        more = {"sliding_window": window}
    else:
        layers = range(config.n_layers)
        slides = [config.window_of(layer) is not None for layer in layers]
        more = {
            "use_sliding_window": any(slides),
            "sliding_window": window,
            "max_window_layers": slides.index(True) if any(slides) else config.n_layers,
            "layer_types": [_SLIDING if each else "full_attention" for each in slides],
            **({"attention_bias": False} if family == "qwen3" else {}),
        }
    rope = {"rope_type": "default"} | _scaling_entries(config.rotary_scaling)
    return {
        "architectures": [CLASSES[family]],
        "model_type": family,
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
        # transformers 4 and older read the first two, transformers 5 and newer the third.
        "rope_theta": config.rotary_base,
        **({} if config.rotary_scaling is None else {"rope_scaling": rope}),
        "rope_parameters": {**rope, "rope_theta": config.rotary_base},
        "attention_dropout": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        **more,
    }


def _scaling_entries(scaling: RotaryScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {}
    entries: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "linear":
        return entries
    entries["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "llama3":
        return {
            **entries,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
        }
    entries |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
    entries |= {} if scaling.truncate else {"truncate": False}
    if scaling.attention_factor is not None:
        entries["attention_factor"] = scaling.attention_factor
    return entries


def read_config(about: Mapping[str, Any], *, where: Path) -> GPTConfig:
    """Build a GPTConfig from the config.json of one of the families.

    Raises:
        UserError: The config describes a variant that GPT does not implement.
    """
    family = about["model_type"]
    if about.get("hidden_act", "silu") not in ("silu", "swish"):
        raise UserError(
            f"hidden_act is {about['hidden_act']!r}. Only silu is supported.", where=where
        )
    n_heads, n_layers = about["num_attention_heads"], about["num_hidden_layers"]
    if n_layers > _MOST_LAYERS:  # before a list of them is made
        raise UserError(
            f"num_hidden_layers is {n_layers:,}. At most {_MOST_LAYERS:,} are expected.",
            where=where,
        )
    kv_heads = about.get("num_key_value_heads", _KV_HEADS.get(family))
    d_head = about.get("head_dim", 128 if family == "qwen3" else None)
    has_bias = family in ("llama", "qwen3") and bool(about.get("attention_bias"))
    has_mlp_bias = family == "llama" and bool(about.get("mlp_bias"))
    window, layers = _sliding(family, about, n_layers, where)
    base, scaling = _rotary(about, where)
    return GPTConfig(
        vocab_size=about["vocab_size"],
        context_length=about["max_position_embeddings"],
        d_model=about["hidden_size"],
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads if kv_heads is None else kv_heads,
        d_head=about["hidden_size"] // n_heads if d_head is None else d_head,
        d_ff=about["intermediate_size"],
        norm_eps=about.get("rms_norm_eps", 1e-6),
        rotary_base=base,
        rotary_scaling=scaling,
        sliding_window=window,
        sliding_layers=layers,
        qk_norm=family == "qwen3",
        # Where only some of these biases exist, the others are zero.
        bias=has_bias or has_mlp_bias,
        qkv_bias=has_bias or family == "qwen2",
        tie_embeddings=about.get("tie_word_embeddings", False),
        init="gpt2",
    )


def _sliding(
    family: str, about: Mapping[str, Any], n_layers: int, where: Path
) -> tuple[int | None, tuple[int, ...] | None]:
    """Read the window, and the layers that have it; None: all of them."""
    if family in ("llama", "mistral"):
        types = about.get("layer_types")
        if family == "llama" and about.get("sliding_window"):
            raise UserError(
                f"sliding_window is {about['sliding_window']}, which models of type llama do not "
                "have. A model_type with it, such as mistral, is expected.",
                where=where,
            )
        expected = "full_attention" if family == "llama" else _SLIDING
        if types is not None and set(types) != {expected}:
            raise UserError(
                f"layer_types has {', '.join(sorted(set(types)))}, and every layer of a model of "
                f"type {family} is of type {expected}.",
                where=where,
            )
        return (about.get("sliding_window", 4096) if family == "mistral" else None), None
    if not about.get("use_sliding_window", False):
        types = about.get("layer_types") or []
        if _SLIDING in types:
            raise UserError(
                f"layer_types has {_SLIDING}, and use_sliding_window is off.", where=where
            )
        return None, None
    window = about.get("sliding_window", 4096)
    types = about.get("layer_types")
    if types is None:
        first = about.get("max_window_layers", 28)
        if type(first) is not int or first < 0:
            raise UserError(
                f"max_window_layers is {first!r}. A whole number of at least 0 is expected.",
                where=where,
            )
        layers = tuple(range(first, n_layers))
    else:
        known = {_SLIDING, "full_attention"}
        if len(types) != n_layers or not set(types) <= known:
            raise UserError(
                f"layer_types has {len(types)} entries ({', '.join(sorted(set(types)))}). For each "
                f"of {n_layers} layers {' or '.join(sorted(known))} is expected.",
                where=where,
            )
        layers = tuple(layer for layer, kind in enumerate(types) if kind == _SLIDING)
    if window is None or not layers:
        return None, None
    return window, None if len(layers) == n_layers else layers


def _rotary(about: Mapping[str, Any], where: Path) -> tuple[float, RotaryScaling | None]:
    """Read base and scaling of the rotary frequencies, in the old and the new spelling."""
    old, new = about.get("rope_scaling") or {}, about.get("rope_parameters") or {}
    rope = {**new, **old}
    different = [key for key in old.keys() & new.keys() if old[key] != new[key]]
    if different:
        raise UserError(
            f"{sorted(different)[0]} differs between rope_scaling and rope_parameters. Equal "
            "values are expected.",
            where=where,
        )
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in _ROPE_TYPES:
        raise UserError(
            f"The rotary positions are scaled by the {kind!r} rule. {', '.join(_ROPE_TYPES)} are "
            "supported.",
            where=where,
        )
    partial = rope.pop("partial_rotary_factor", about.get("partial_rotary_factor"))
    unknown = sorted(rope.keys() - _ROPE_ENTRIES)
    if unknown or partial not in (None, 1):
        name = unknown[0] if unknown else "partial_rotary_factor"
        raise UserError(
            f"The rotary positions have the setting {name}, which is not supported.", where=where
        )
    base = float(rope.get("rope_theta", about.get("rope_theta", 10_000.0)))
    if kind == "default":
        return base, None
    factor, context = rope["factor"], about["max_position_embeddings"]
    if kind == "linear":
        return base, RotaryScaling(kind="linear", factor=float(factor))
    name = "original_max_position_embeddings"
    original = about.get(name) or rope.get(name, context)
    if kind == "llama3":
        return base, RotaryScaling(
            kind="llama3",
            factor=float(factor),
            original_context=original,
            low_frequency_factor=float(rope["low_freq_factor"]),
            high_frequency_factor=float(rope["high_freq_factor"]),
        )
    factor = float(context / original if factor is None else factor)
    scale, mscale, all_dim = (
        rope.get(name) for name in ("attention_factor", "mscale", "mscale_all_dim")
    )
    if scale is None and mscale and all_dim:
        scale = 1.0
        if factor > 1:
            scale = (0.1 * mscale * math.log(factor) + 1) / (0.1 * all_dim * math.log(factor) + 1)
    return base, RotaryScaling(
        kind="yarn",
        factor=factor,
        original_context=original,
        beta_fast=float(rope.get("beta_fast") or 32),
        beta_slow=float(rope.get("beta_slow") or 1),
        truncate=rope.get("truncate", True),
        attention_factor=None if scale is None else float(scale),
    )
