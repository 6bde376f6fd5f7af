"""Write a model as a GGUF file, the format of llama.cpp, as its converter writes it.

One tensor is in memory at a time beside the model. What llama.cpp computes otherwise than our model
is refused.

Source: https://github.com/ggml-org/llama.cpp/tree/master/conversion, base.py, gpt2.py, llama.py.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import stored_tensors
from groundup.weights.gguf_names import ROPE_FREQS, Part, parts_of
from groundup.weights.gguf_rotary import scaling_keys, wavelength_factors
from groundup.weights.layer_patterns import difference_of_pattern, without_pattern

GGUFType = Literal["float32", "float16", "q8_0"]
_TYPES = {"float32": "F32", "float16": "F16", "q8_0": "Q8_0"}
_FILE_TYPES = {"float32": 0, "float16": 1, "q8_0": 7}
"""Values of general.file_type."""
_Q8_0_BLOCK = 32


def gguf_family(config: GPTConfig) -> str:
    """Name the architecture of llama.cpp that computes a model with this config.

    Raises:
        UserError: There is none; the message names the settings.
    """
    wrong = _differences(config)
    if wrong:
        raise UserError(
            f"llama.cpp has no architecture for this model: {'; '.join(wrong)}. The settings of "
            "GPT-2 (layer norm, learned positions, gelu, biases), or of Llama, Qwen2 or Qwen3 (rms "
            "norm, rotary positions, swiglu) are expected."
        )
    if config.norm == "layer":
        return "gpt2"
    return "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias else "llama"


def _differences(config: GPTConfig) -> list[str]:
    """List the settings that no architecture has, as they are and as they should be."""
    c = without_pattern(config)
    if c is None:
        return [difference_of_pattern(config)]
    is_gpt2 = c.norm == "layer"
    wanted: dict[str, Any] = {"ngram": 1}
    if is_gpt2:
        wanted |= {"positions": "learned", "activation": "gelu", "bias": True, "qk_norm": False}
        wanted |= {"n_kv_heads": c.n_heads, "d_head": c.d_model / c.n_heads}
    else:
        wanted |= {"positions": "rotary", "activation": "swiglu", "bias": False}
    if c.qk_norm:
        wanted["qkv_bias"] = False
    elif c.qkv_bias:  # Qwen2 has a square matrix after attention
        wanted["d_head"] = c.d_model / c.n_heads
    found = {"n_kv_heads": c.kv_heads, "d_head": c.head_width}
    wrong = []
    for name, value in wanted.items():
        is_value = found.get(name, getattr(c, name))
        if is_value != value:
            wrong.append(f"{name} is {is_value!r} instead of {value!r}")
    if c.sliding_window is not None and c.sliding_window < c.context_length:
        wrong.append(
            f"sliding_window is {c.sliding_window}, and llama.cpp attends to all positions"
        )
    scaling = c.rotary_scaling
    if scaling is not None and scaling.kind == "llama3" and (c.qk_norm or c.qkv_bias):
        wrong.append("the rotary scaling is 'llama3', which only Llama has")
    if scaling is not None and not (scaling.truncate and scaling.attention_factor is None):
        wrong.append("truncate or attention_factor of the rotary scaling is set")
    return wrong


def write_gguf(
    model: GPT,
    path: Path | str,
    *,
    dtype: GGUFType = "float32",
    general: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
) -> None:
    """Write the model; an interrupted call leaves no file.

    Args:
        model: A model of the GPT-2, Llama, Qwen2 or Qwen3 architecture.
        path: The file to write. One that is there is replaced.
        dtype: Type of the matrices. Vectors and learned positions are float32; rows that no whole
            number of blocks fills are float16 instead of q8_0.
        general: Keys without "general.", such as the name and the license.
        tokenizer: Keys of the tokenizer, with their complete names. None: the file has none.

    Raises:
        UserError: llama.cpp does not compute this model, or the file cannot be written.
    """
    import gguf

    config = model.config
    family = gguf_family(config)
    ours = stored_tensors(model)
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, family)
        values = {
            **_general(general or {}, dtype),
            **{f"{family}.{key}": value for key, value in _settings(config, family).items()},
            **(tokenizer or {"tokenizer.ggml.model": "none"}),
        }
        for key, value in values.items():
            _add(writer, key, value)
        written = _tensors(config, family, ours)
        types = {name: _type_of(name, tensor.shape, dtype) for name, tensor in written}
        for name, tensor in written:
            number = gguf.GGMLQuantizationType[types[name]]
            shape = gguf.quants.quant_shape_to_byte_shape(tensor.shape, number)
            as_bytes = types[name] == "Q8_0"
            writer.add_tensor_info(
                name,
                shape if as_bytes else tensor.shape,
                np.dtype(np.uint8 if as_bytes else np.float32),
                int(np.prod(shape)),
                raw_dtype=number,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in written:
            number = gguf.GGMLQuantizationType[types[name]]
            writer.write_tensor_data(gguf.quants.quantize(tensor.read().numpy(), number))
        writer.close()


@dataclasses.dataclass(frozen=True)
class _Written:
    """A tensor of the file: its rows of one of our parameters, in the order of the file."""

    shape: tuple[int, ...]
    rows: Tensor
    order: Tensor | None

    def read(self) -> Tensor:
        values = self.rows if self.order is None else self.rows[self.order]
        return values.float().contiguous()


def _tensors(
    config: GPTConfig, family: str, ours: Mapping[str, Tensor]
) -> list[tuple[str, _Written]]:
    is_gpt2 = family == "gpt2"
    # GPT-2 always has biases for queries, keys and values: zero for a model without.
    parts = parts_of(dataclasses.replace(config, qkv_bias=True) if is_gpt2 else config, family)
    written = []
    if config.rotary_scaling is not None and config.rotary_scaling.kind == "llama3":
        base, D = config.rotary_base, config.head_width
        factors = wavelength_factors(config.rotary_scaling, D, base)
        written.append((ROPE_FREQS, _Written(tuple(factors.shape), factors, None)))
    for our, of in parts.items():
        tensor = ours[our] if our in ours else torch.zeros(of[0].shape)
        n_rows = [part.shape[0] for part in of]
        for number, (part, rows) in enumerate(zip(of, torch.split(tensor, n_rows), strict=True)):
            written.append(
                (part.name, _Written(part.shape, rows, _order(config, our, part, number)))
            )
    return written


def _order(config: GPTConfig, our: str, part: Part, number: int) -> Tensor | None:
    """Our row of each row of the file; None if the order is the same."""
    is_rotated = "attention.qkv" in our and number < 2 and config.positions == "rotary"
    is_gain = our.endswith(("query_gain", "key_gain"))
    order = part.order()  # from the interleaved layout to the half layout
    if config.rotary_layout == "half" or not (is_rotated or is_gain):
        return None if order is None else order.argsort()
    if order is not None:  # both are interleaved
        return None
    n_heads = part.shape[0] // config.head_width
    return dataclasses.replace(part, interleaved_heads=n_heads).order()


def _type_of(name: str, shape: tuple[int, ...], dtype: GGUFType) -> str:
    if len(shape) < 2 or name == "position_embd.weight":
        return "F32"
    if dtype == "q8_0" and shape[-1] % _Q8_0_BLOCK:
        return "F16"
    return _TYPES[dtype]


def _general(general: Mapping[str, Any], dtype: GGUFType) -> dict[str, Any]:
    keys = {"type": "model", **general, "file_type": _FILE_TYPES[dtype]}
    keys["quantization_version"] = 2
    return {f"general.{key}": value for key, value in keys.items()}


def _settings(config: GPTConfig, family: str) -> dict[str, Any]:
    """The keys of an architecture, in the order of llama.cpp's converter."""
    keys: dict[str, Any] = {
        "block_count": config.n_layers,
        "context_length": config.context_length,
        "embedding_length": config.d_model,
        "feed_forward_length": config.ff_width,
        "attention.head_count": config.n_heads,
    }
    if family == "gpt2":
        return {**keys, "attention.layer_norm_epsilon": config.norm_eps}
    keys["attention.head_count_kv"] = config.kv_heads
    if config.rotary_scaling is not None:
        keys |= scaling_keys(config.rotary_scaling)
    keys["rope.freq_base"] = float(config.rotary_base)
    keys["attention.layer_norm_rms_epsilon"] = config.norm_eps
    keys["attention.key_length"] = keys["attention.value_length"] = config.head_width
    if family == "llama":
        keys["vocab_size"] = config.vocab_size
        keys["rope.dimension_count"] = config.head_width
    return keys


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a key with the type that llama.cpp reads it with."""
    if key == "general.architecture":  # the writer has added it
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value.tolist() if isinstance(value, np.ndarray) else value)
