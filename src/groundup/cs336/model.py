"""The adapters of the block and the language model, which is one of the Llama family."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.cs336.weights import BLOCK, Weights, all_names, check_shapes, computed, in_our_names
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT, Block
from groundup.model.rotary import RotaryEmbedding

_EPS = 1e-5


def run_transformer_block(
    d_model: int,
    num_heads: int,
    d_ff: int,
    max_seq_len: int,
    theta: float | int,
    weights: Weights,
    in_features: Float[Tensor, "B T d_model"],
) -> Float[Tensor, "B T d_model"]:
    """Compute x + attention(norm(x)), then x + SwiGLU(norm(x)).

    Raises:
        UserError: A weight is missing, unexpected or of another shape.
    """
    config = _config(1, max_seq_len, d_model, 1, num_heads, d_ff, theta)
    rope = RotaryEmbedding(config.head_width, max_seq_len, theta, "interleaved")
    positions = torch.arange(in_features.shape[1], device=in_features.device)
    rotary = rope.to(in_features.device).at(positions)
    return computed(Block(config, 0), in_features, in_our_names(weights, BLOCK), rotary)


def run_transformer_lm(
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    d_ff: int,
    rope_theta: float | int,
    weights: Weights,
    in_indices: Int[Tensor, "B T"],
) -> Float[Tensor, "B T vocab_size"]:
    """Compute the logits of the next token at every position.

    Raises:
        UserError: A weight is missing, unexpected or of another shape, or `check_ids` refuses
            the ids.
    """
    config = _config(vocab_size, context_length, d_model, num_layers, num_heads, d_ff, rope_theta)
    model = GPT(config).to(in_indices.device)
    return computed(model, in_indices, in_our_names(weights, all_names(num_layers)))


def to_gpt(
    weights: Weights, *, context_length: int, num_heads: int, rope_theta: float | int = 10_000.0
) -> GPT:
    """Return a `groundup.GPT` with these weights; the sizes follow from their shapes.

    Generation with a KV cache, evaluation, export and further training take it.

    Args:
        weights: The state of a transformer language model, in the course's names.
        context_length: Number of positions.
        num_heads: Number of heads.
        rope_theta: Base of the rotary wavelengths.

    Raises:
        UserError: A weight is missing, unexpected or of another shape.
    """
    for name in ("token_embeddings.weight", "layers.0.ffn.w1.weight"):
        if name not in weights:
            raise UserError(f"The weight {name} is missing. A transformer of the course has it.")
    vocab_size, d_model = weights["token_embeddings.weight"].shape
    d_ff = len(weights["layers.0.ffn.w1.weight"])
    numbers = {name.split(".")[1] for name in weights if name.startswith("layers.")}
    n_layers = len(numbers)
    config = _config(vocab_size, context_length, d_model, n_layers, num_heads, d_ff, rope_theta)
    model = GPT(config)
    ours = in_our_names(weights, all_names(n_layers))
    check_shapes(model, ours)
    model.load_state_dict(ours)
    return model


def from_gpt(model: GPT) -> dict[str, Tensor]:
    """Return copies of a model's weights in the course's names.

    Raises:
        UserError: The model's architecture is another one.
    """
    c = model.config
    own = _config(
        c.vocab_size, c.context_length, c.d_model, c.n_layers, c.n_heads, c.ff_width, c.rotary_base
    )
    if _kind(c) != _kind(own):
        raise UserError(
            "This model is not a transformer of the course. RMSNorm, SwiGLU, interleaved rotary "
            "positions, as many key heads as heads, and no biases and no qk_norm are expected."
        )
    ours = model.state_dict()
    theirs: dict[str, Tensor] = {}
    for name, names in all_names(c.n_layers).items():
        theirs |= dict(zip(names, ours[name].clone().chunk(len(names)), strict=True))
    return theirs


def _kind(c: GPTConfig) -> tuple[object, ...]:
    """Everything but the sizes that decides the logits."""
    switches = (c.norm, c.norm_eps, c.positions, c.rotary_layout, c.activation)
    reach = (c.rotary_scaling, c.window_of(0), set(c.kinds))
    return *switches, *reach, c.qk_norm, c.ngram, c.bias, c.qkv_bias, c.kv_heads, c.head_width


def _config(
    vocab_size: int,
    context_length: int,
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_ff: int,
    theta: float,
) -> GPTConfig:
    return GPTConfig.llama(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=None,
        d_ff=d_ff,
        norm_eps=_EPS,
        rotary_layout="interleaved",
        rotary_base=float(theta),
    )
