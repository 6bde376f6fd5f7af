"""A trained model as data for a page: its weights in 8 bits, its config, and its tokenizer.

`templates/transformer.js` computes the logits from it, and `templates/tokenizer.js` the ids.
"""

import base64
import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.errors import UserError
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.loss import evaluate_loss
from groundup.inspection.page_tokenizer import page_tokenizer
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters
from groundup.model.gpt import GPT
from groundup.model.rotary import rotary_frequencies
from groundup.tokenizer.special import ASSISTANT, END, USER

LARGEST_BYTES = 20_000_000
"""Size of a model in a page, at most. A browser decodes this in about a second."""
_BASE64_GROWTH = 4 / 3
_READ = {
    *("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_head"),
    *("d_ff", "norm", "norm_eps", "positions", "rotary_layout", "rotary_base", "rotary_scaling"),
    *(
        "sliding_window",
        "sliding_layers",
        "layers",
        "window",
        "qk_norm",
        "activation",
        "ngram",
        "ngram_rows",
    ),
    *("bias", "qkv_bias", "tie_embeddings"),
}
"""The fields of a config that the page computes with."""
_NOT_READ = {"qk_gain", "init", "look_back", "dropout"}
"""The fields of a config that decide only how a model is trained."""


@dataclass(frozen=True, kw_only=True)
class PageModel:
    """A model in a page."""

    description: dict[str, Any]
    """The config, where each tensor is, the tokenizer, and the ids that begin and end a text."""
    weights: str
    """All tensors, in base64: first the float32 numbers, then the int8 ones."""


def page_model(language_model: LanguageModel) -> PageModel:
    """Write a model and its tokenizer so that a page can run them.

    Matrices are rounded (`round_rows`); gains and biases stay float32.

    Raises:
        UserError: The page cannot run the model, or it would be larger than `LARGEST_BYTES`.
    """
    model, tokenizer = language_model.model, language_model.tokenizer
    n_bytes = int(count_parameters(model.config) * _BASE64_GROWTH)
    if n_bytes > LARGEST_BYTES:
        raise UserError(
            f"The model does not run inside this page: it has {n_bytes / 1e6 / _BASE64_GROWTH:,.0f}"
            f" M parameters and would take {n_bytes / 1e6:,.0f} MB. The limit is "
            f"{LARGEST_BYTES / 1e6:.0f} MB."
        )
    config = page_config(model.config)
    tensors, weights = pack(_tensors(model))
    special = tokenizer.special_tokens
    chat = [special[name] for name in (USER, END, ASSISTANT) if name in special]
    return PageModel(
        description={
            "config": config | {"n_used_ids": model.n_used_ids},
            "tensors": tensors,
            "tokenizer": page_tokenizer(tokenizer),
            "start_ids": language_model.start_ids,
            "stop_ids": list(language_model.stop_ids),
            "chat_ids": chat if language_model.is_assistant and len(chat) == 3 else None,
        },
        weights=base64.b64encode(weights).decode("ascii"),
    )


def page_config(config: GPTConfig) -> dict[str, Any]:
    """List what the page has to know of an architecture, with every default resolved.

    Raises:
        UserError: The config has an option that the page does not know.
    """
    names = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(names - _READ - _NOT_READ):
        raise UserError(
            "The model does not run inside this page, which does not support its option "
            f"{unknown[0]}."
        )
    layers = range(config.n_layers)
    if config.is_mixed and set(config.kinds) != {"w"}:
        raise UserError(
            f"The model does not run inside this page: its layers are {''.join(config.kinds)}, and "
            "the page has attention with positions only."
        )
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "d_model": config.d_model,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "n_kv_heads": config.kv_heads,
        "d_head": config.head_width,
        "d_ff": config.ff_width,
        "norm": config.norm,
        "norm_eps": config.norm_eps,
        "positions": config.positions,
        "rotary_layout": config.rotary_layout,
        "rotary_scale": _frequencies(config)[1],
        "windows": [config.window_of(layer) for layer in layers],
        "qk_norm": config.qk_norm,
        "activation": config.activation,
        "ngram": config.ngram,
        "ngram_rows": config.ngram_rows,
    }


def pack(tensors: dict[str, Tensor]) -> tuple[dict[str, list[int]], bytes]:
    """Write tensors as bytes, and where each of them is.

    Returns:
        For each name the number of its first float32, and for a matrix also its rows, its columns
        and the number of its first int8; and the bytes.
    """
    places: dict[str, list[int]] = {}
    floats: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    quants: list[np.ndarray[Any, np.dtype[np.int8]]] = []
    n_floats = n_quants = 0
    for name, tensor in tensors.items():
        values = tensor.detach().float().cpu()
        if values.ndim == 1:
            places[name] = [n_floats, len(values)]
            numbers = values
        else:
            rows, columns = values.shape
            places[name] = [n_floats, rows, columns, n_quants]
            rounded, numbers = round_rows(values)
            quants.append(rounded.numpy().ravel())
            n_quants += rows * columns
        floats.append(numbers.numpy().astype("<f4"))
        n_floats += len(numbers)
    return places, np.concatenate(floats).tobytes() + np.concatenate(quants).tobytes()


def round_rows(
    matrix: Float[Tensor, "rows columns"],
) -> tuple[Int8[Tensor, "rows columns"], Float[Tensor, " rows"]]:
    """Round each row of a matrix to int8 with a scale, its largest magnitude / 127.

    >>> round_rows(torch.tensor([[1.27, -0.5], [0.0, 0.0]]))[0].tolist()
    [[127, -50], [0, 0]]
    """
    scales = (matrix.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (matrix / scales[:, None]).round().to(torch.int8), scales


@torch.no_grad()
def rounding_nats(model: GPT, ids: NDArray[np.int64]) -> float:
    """Measure by how much the rounded weights change the loss on a text, in nats/token."""
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        if parameter.ndim == 2:
            quants, scales = round_rows(parameter.float())
            parameter.copy_(quants * scales[:, None])
    before, after = (evaluate_loss(each, ArrayTokens(ids)).nats for each in (model, rounded))
    return after - before


def _tensors(model: GPT) -> dict[str, Tensor]:
    """List the weights by name; a tied head is left out, as it is the token embedding."""
    with torch.device("meta"):
        expected = dict(GPT(model.config, initialize=False).named_parameters())
    found: dict[str, Tensor] = dict(model.named_parameters())
    if {n: p.shape for n, p in found.items()} != {n: p.shape for n, p in expected.items()}:
        raise UserError(
            "The model does not run inside this page, because its weights are quantized or have "
            "adapters that are not merged."
        )
    if model.config.positions == "rotary":
        found["rotary_frequencies"] = _frequencies(model.config)[0]
    return found


def _frequencies(config: GPTConfig) -> tuple[Tensor, float]:
    return rotary_frequencies(config.head_width, config.rotary_base, config.rotary_scaling)
