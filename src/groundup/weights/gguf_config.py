"""The settings of the model in a GGUF file, as a GPTConfig."""

from typing import Any

from groundup.base.errors import UserError
from groundup.base.gguf import GGUFHeader
from groundup.model.config import GPTConfig, RotaryScaling
from groundup.weights.gguf_blocks import read_values
from groundup.weights.gguf_metadata import Metadata
from groundup.weights.gguf_names import ROPE_FREQS
from groundup.weights.gguf_rotary import scaling_of, scaling_of_factors


def config_of(header: GGUFHeader) -> tuple[str, GPTConfig]:
    """Read the name of the architecture and its settings.

    Raises:
        UserError: A key is missing, has a wrong value, or asks for what no model of ours computes.
    """
    metadata = Metadata(header)
    family, tensors = metadata.family, header.tensors
    metadata.check_keys()
    n_layers = metadata.size("block_count")
    if n_layers > len(tensors):
        metadata.refuse(f"{family}.block_count", f"The file has {len(tensors):,} tensors.")
    width, n_heads = metadata.size("embedding_length"), metadata.size("attention.head_count")
    d_head = metadata.size("attention.key_length", width // n_heads or None)
    for name in ("attention.value_length", "rope.dimension_count"):
        if metadata.size(name, d_head) != d_head:
            metadata.refuse(f"{family}.{name}", f"{d_head}, the width of a head, is expected.")
    context_length = metadata.size("context_length")
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise UserError(
            "The tensor token_embd.weight is missing or no matrix. A file with the weights of a "
            "model is expected.",
            where=header.path,
        )
    # Older files have no key for it, so the tensor decides.
    if metadata.size("vocab_size", embedding.shape[0]) != embedding.shape[0]:
        metadata.refuse(
            f"{family}.vocab_size", f"The tensor token_embd.weight has the shape {embedding.shape}."
        )
    sizes: dict[str, Any] = {
        "vocab_size": embedding.shape[0],
        "context_length": context_length,
        "d_model": width,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": metadata.size("attention.head_count_kv", n_heads),
        "d_head": d_head,
        "d_ff": metadata.size("feed_forward_length"),
        "qk_norm": family == "qwen3",
        "tie_embeddings": "output.weight" not in tensors,
        "init": "gpt2",
    }
    try:
        if family == "gpt2":
            eps = metadata.number("attention.layer_norm_epsilon")
            config = GPTConfig(
                **sizes, norm="layer", norm_eps=eps, positions="learned", activation="gelu",
                bias=True, qkv_bias=True,
            )  # fmt: skip
        else:
            config = GPTConfig(
                **sizes,
                **_positions(header, metadata, d_head, context_length),
                norm_eps=metadata.number("attention.layer_norm_rms_epsilon"),
                qkv_bias="blk.0.attn_q.bias" in tensors,
            )
    except UserError as error:
        if error.where is not None:
            raise
        raise UserError(error.message, where=header.path) from error
    return family, config


def _positions(
    header: GGUFHeader, metadata: Metadata, d_head: int, context_length: int
) -> dict[str, Any]:
    """Read the settings of rotary positions and of the sliding window."""
    base = metadata.number("rope.freq_base", 10_000.0)
    scaling = scaling_of(metadata, context_length)
    window = header.metadata.get(f"{metadata.family}.attention.sliding_window")
    if metadata.family == "llama" and ROPE_FREQS in header.tensors:
        scaling = _scaling_of_tensor(header, d_head, base, scaling)
    return {
        "rotary_base": base,
        "rotary_scaling": scaling,
        "sliding_window": metadata.size("attention.sliding_window") if window else None,
    }


def _scaling_of_tensor(
    header: GGUFHeader, d_head: int, base: float, other: RotaryScaling | None
) -> RotaryScaling | None:
    tensor = header.tensors[ROPE_FREQS]
    if tensor.shape != (d_head // 2,) or tensor.type != "F32":
        raise UserError(
            f"The tensor {ROPE_FREQS!r} is {tensor.type} of the shape {tensor.shape}. F32 of the "
            f"shape {(d_head // 2,)} is expected.",
            where=header.path,
        )
    if other is not None:
        raise UserError(
            f"The file has the tensor {ROPE_FREQS!r} and also the scaling {other.kind!r}. One of "
            "them is expected.",
            where=header.path,
        )
    return scaling_of_factors(read_values(header.path, tensor).view(-1), d_head, base)
