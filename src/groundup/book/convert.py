"""Weights from and to the book's model: OpenAI's GPT-2 files, and our own GPT."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.book.attention import MultiHeadAttention
from groundup.book.model import GPTModel, LayerNorm, TransformerBlock
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.gpt2 import is_gpt2

# Our name in a block, and the book's; three of the book's matrices are one of ours.
_BLOCK = {
    "attention_norm.weight": "norm1.scale",
    "attention_norm.bias": "norm1.shift",
    "attention.qkv.weight": "att.W_query.weight att.W_key.weight att.W_value.weight",
    "attention.qkv.bias": "att.W_query.bias att.W_key.bias att.W_value.bias",
    "attention.out.weight": "att.out_proj.weight",
    "attention.out.bias": "att.out_proj.bias",
    "mlp_norm.weight": "norm2.scale",
    "mlp_norm.bias": "norm2.shift",
    "mlp.up.weight": "ff.layers.0.weight",
    "mlp.up.bias": "ff.layers.0.bias",
    "mlp.down.weight": "ff.layers.2.weight",
    "mlp.down.bias": "ff.layers.2.bias",
}
_TOP = {
    "token_embedding.weight": "tok_emb.weight",
    "position_embedding.weight": "pos_emb.weight",
    "final_norm.weight": "final_norm.scale",
    "final_norm.bias": "final_norm.shift",
    "head.weight": "out_head.weight",
}


def _names(n_layers: int) -> Iterator[tuple[str, list[str]]]:
    """Each of our names with the book's names for it."""
    for ours, theirs in _TOP.items():
        yield ours, [theirs]
    for layer in range(n_layers):
        for ours, theirs in _BLOCK.items():
            names = [f"trf_blocks.{layer}.{name}" for name in theirs.split()]
            yield f"blocks.{layer}.{ours}", names


def to_gpt(model: GPTModel) -> GPT:
    """Return the book's model as our GPT, with equal logits (up to rounding) and its own weights.

    Training, generation with a cache, export and the other functions of groundup take it.

    Raises:
        UserError: The model was changed into something else than a language model, for example by
            a head for two classes.
    """
    theirs = model.state_dict()
    width, n_layers = model.tok_emb.embedding_dim, len(model.trf_blocks)
    block = model.trf_blocks[0] if n_layers else None
    if not isinstance(block, TransformerBlock) or not isinstance(block.att, MultiHeadAttention):
        raise UserError("The model has no blocks of the book. A GPTModel of the book is expected.")
    config = GPTConfig.gpt2(
        vocab_size=model.tok_emb.num_embeddings,
        context_length=model.pos_emb.num_embeddings,
        qkv_bias=block.att.W_query.bias is not None,
        tie_embeddings=model.out_head.weight is model.tok_emb.weight,
        dropout=model.drop_emb.p,
    )
    config = dataclasses.replace(
        config, d_model=width, n_layers=n_layers, n_heads=block.att.num_heads
    )
    gpt = GPT(config)
    ours = gpt.state_dict()
    expected = {name for our, names in _names(n_layers) if our in ours for name in names}
    found = {name for name in theirs if not name.endswith("att.mask")}
    different = sorted(expected ^ found)
    if different:
        raise UserError(
            f"The model differs from the book's in the weights {', '.join(different[:3])}. Undo "
            "the change to convert it."
        )
    for our, names in _names(n_layers):
        if our not in ours:
            continue
        tensor = torch.cat([theirs[name] for name in names])
        if tensor.shape != ours[our].shape:
            raise UserError(
                f"{' and '.join(names)} has the shape {tuple(tensor.shape)}. Expected "
                f"{tuple(ours[our].shape)} for a language model of {config.vocab_size} tokens."
            )
        ours[our].copy_(tensor)
    return gpt.to(model.tok_emb.weight).train(model.training)


def from_gpt(gpt: GPT) -> GPTModel:
    """Return our GPT as the book's model, with equal logits (up to rounding) and its own weights.

    The GPT must be of the architecture of GPT-2; `groundup import` makes one from published
    weights. torch's random state is left as it was.

    Raises:
        UserError: The architecture is another one.
    """
    config = gpt.config
    if not is_gpt2(config) or config.ngram > 1 or config.ff_width != 4 * config.d_model:
        raise UserError(
            "The model is not of the architecture of GPT-2, which the book builds. One made with "
            "GPTConfig.gpt2(...) or imported from GPT-2 weights is expected."
        )
    if config.activation != "gelu":
        raise UserError(
            f"The activation is {config.activation}. The book's model has gelu, the approximation "
            "with tanh."
        )
    if config.norm_eps != 1e-5:
        raise UserError(f"norm_eps is {config.norm_eps}. The book's model has 1e-05.")
    cfg = {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "emb_dim": config.d_model,
        "n_heads": config.n_heads,
        "n_layers": config.n_layers,
        "drop_rate": config.dropout,
        "qkv_bias": config.qkv_bias,
    }
    with torch.random.fork_rng(devices=[]):
        model = GPTModel(cfg)
    if config.tie_embeddings:
        model.out_head.weight = model.tok_emb.weight
    ours, theirs = gpt.state_dict(), model.state_dict()
    for our, names in _names(config.n_layers):
        if our in ours:
            for name, part in zip(names, ours[our].chunk(len(names)), strict=True):
                theirs[name].copy_(part)
    return model.to(gpt.token_embedding.weight).train(gpt.training)


def assign(left: Tensor, right: Any) -> nn.Parameter:
    """Return `right` (an array or tensor) as a parameter, if it has the shape of `left`.

    Raises:
        UserError: The shapes differ.
    """
    if tuple(left.shape) != tuple(right.shape):
        raise UserError(f"The shapes differ: {tuple(left.shape)} and {tuple(right.shape)}.")
    return nn.Parameter(torch.as_tensor(right).detach().clone())


def load_weights_into_gpt(gpt: GPTModel, params: Mapping[str, Any]) -> None:
    """Replace the weights of a model by those of GPT-2 in OpenAI's layout.

    Args:
        gpt: Model with `qkv_bias=True` and the sizes of the weights.
        params: wte, wpe, g, b, and blocks with attn, mlp, ln_1 and ln_2, as arrays. Matrices are
            (inputs, outputs), the transpose of torch's.

    Raises:
        UserError: The sizes differ, or the model has no biases for queries, keys and values.
    """
    if len(params["blocks"]) != len(gpt.trf_blocks):
        raise UserError(
            f"The weights have {len(params['blocks'])} blocks, the model {len(gpt.trf_blocks)}."
        )
    gpt.pos_emb.weight = assign(gpt.pos_emb.weight, params["wpe"])
    gpt.tok_emb.weight = assign(gpt.tok_emb.weight, params["wte"])
    for block, stored in zip(gpt.trf_blocks, params["blocks"], strict=True):
        assert isinstance(block, TransformerBlock)
        attention, joined = block.att, stored["attn"]["c_attn"]
        if attention.W_query.bias is None:
            raise UserError("The model was made with qkv_bias=False. GPT-2 needs qkv_bias=True.")
        layers = (attention.W_query, attention.W_key, attention.W_value)
        weights, biases = (np.split(np.asarray(joined[key]), 3, axis=-1) for key in "wb")
        for layer, weight, bias in zip(layers, weights, biases, strict=True):
            _assign_linear(layer, weight, bias)
        _assign_linear(attention.out_proj, **stored["attn"]["c_proj"])
        _assign_linear(block.ff.layers[0], **stored["mlp"]["c_fc"])
        _assign_linear(block.ff.layers[2], **stored["mlp"]["c_proj"])
        _assign_norm(block.norm1, **stored["ln_1"])
        _assign_norm(block.norm2, **stored["ln_2"])
    _assign_norm(gpt.final_norm, params["g"], params["b"])
    gpt.out_head.weight = assign(gpt.out_head.weight, params["wte"])


def _assign_linear(layer: nn.Module, w: Any, b: Any) -> None:
    assert isinstance(layer, nn.Linear)
    layer.weight, layer.bias = assign(layer.weight, w.T), assign(layer.bias, b)


def _assign_norm(norm: LayerNorm, g: Any, b: Any) -> None:
    norm.scale, norm.shift = assign(norm.scale, g), assign(norm.shift, b)
