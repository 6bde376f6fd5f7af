"""GGUF files with tiny random models, written by the package gguf as llama.cpp's converter does."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

SIZES: dict[str, Any] = {
    "context_length": 24, "embedding_length": 32, "block_count": 2, "feed_forward_length": 48,
    "attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": 61,
}  # fmt: skip
TOKENS = [f"t{i}" for i in range(61)]


def tensor_shapes(family: str, sizes: dict[str, Any], *, tied: bool = True) -> dict[str, Any]:
    """The names and shapes of the tensors of a model."""
    C, F, V = sizes["embedding_length"], sizes["feed_forward_length"], sizes["vocab_size"]
    D = sizes.get("attention.key_length", C // sizes["attention.head_count"])
    Q, K = D * sizes["attention.head_count"], D * sizes["attention.head_count_kv"]
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (V, C), "output_norm.weight": (C,)}
    for layer in range(sizes["block_count"]):
        of: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (C,), "ffn_norm.weight": (C,), "attn_output.weight": (C, Q),
            "ffn_up.weight": (F, C), "ffn_down.weight": (C, F),
        }  # fmt: skip
        if family == "gpt2":
            of |= {"attn_qkv.weight": (Q + 2 * K, C), "attn_qkv.bias": (Q + 2 * K,)}
            of |= {f"{n}.bias": (C,) for n in ("attn_norm", "ffn_norm", "attn_output", "ffn_down")}
            of |= {"ffn_up.bias": (F,)}
        else:
            of |= {"attn_q.weight": (Q, C), "attn_k.weight": (K, C), "attn_v.weight": (K, C)}
            of |= {"ffn_gate.weight": (F, C)}
        if family == "qwen2":
            of |= {"attn_q.bias": (Q,), "attn_k.bias": (K,), "attn_v.bias": (K,)}
        if family == "qwen3":
            of |= {"attn_q_norm.weight": (D,), "attn_k_norm.weight": (D,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in of.items()}
    if family == "gpt2":
        shapes |= {"position_embd.weight": (sizes["context_length"], C), "output_norm.bias": (C,)}
    if not tied:
        shapes["output.weight"] = (V, C)
    return shapes


def write_tiny(
    path: Path,
    family: str = "llama",
    *,
    tied: bool = True,
    types: dict[str, str] | None = None,
    metadata: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray | None] | None = None,
    sizes: dict[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Write a file and return its values.

    Args:
        path: File to write.
        family: Name of the architecture.
        tied: Whether the head is the token embedding.
        types: Type of the matrices whose name contains a text. Others are F32.
        metadata: More keys, without the name of the architecture. None as a value removes one.
        tensors: More tensors, or other values. None as a value removes one.
        sizes: Other sizes.
    """
    chosen = SIZES | (sizes or {})
    if family == "gpt2":
        chosen |= {"attention.head_count_kv": chosen["attention.head_count"]}
    random = np.random.default_rng(5)
    values: dict[str, np.ndarray] = {}
    for name, shape in tensor_shapes(family, chosen, tied=tied).items():
        is_gain = "norm" in name and name.endswith("weight")
        values[name] = (0.2 * random.standard_normal(shape) + is_gain).astype(np.float32)
    for name, given in (tensors or {}).items():
        values.pop(name, None)
        if given is not None:
            values[name] = given
    eps = "layer_norm_epsilon" if family == "gpt2" else "layer_norm_rms_epsilon"
    keys = {**chosen, f"attention.{eps}": 1e-5}
    writer = gguf.GGUFWriter(path, family)
    names = {f"{family}.{k}": v for k, v in keys.items()}
    names |= {k if "." in k and k.split(".")[0] in ("general", "tokenizer") else f"{family}.{k}": v
              for k, v in (metadata or {}).items()}  # fmt: skip
    for key, value in names.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, value in values.items():
        kind = next((k for part, k in (types or {}).items() if part in name), "F32")
        if value.ndim < 2 or kind == "F32":
            writer.add_tensor(name, value)
            continue
        number = gguf.GGMLQuantizationType[kind]
        packed = gguf.quants.quantize(value, number)
        values[name] = gguf.quants.dequantize(packed, number)
        writer.add_tensor(name, packed, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values
