"""What a reduced form of the weights costs: bits per byte, top-1 agreement and the worst text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.base.errors import UserError
from groundup.data.protocol import Tokens
from groundup.evaluation.decoders import decoder_of
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.loss import token_lengths
from groundup.generation.decoder import Decoder, Form

_MOST_TEXTS, _MOST_TOKENS = 32, 256
_FEW = 8
"""Positions that are read at a time, so that the operators for few rows are the ones measured."""


@dataclass(frozen=True, kw_only=True)
class TextCost:
    """One text, in two forms of the same weights."""

    index: int
    """Number of the text."""
    n_targets: int
    """Number of tokens that were predicted."""
    exact_nats: float
    """Mean loss per target in float32."""
    reduced_nats: float
    """Mean loss per target in the reduced form."""
    agreement_frac: float
    """Share of positions at which both forms have the same most likely token."""
    divergence_nats: float
    """Mean Kullback-Leibler divergence per position, from the float32 distribution."""


@dataclass(frozen=True, kw_only=True)
class QuantizationCost:
    """All texts, and the worst of them."""

    form: str
    """The reduced form and its operators."""
    n_targets: int
    """Number of tokens that were predicted."""
    exact_bits_per_byte: float
    """Loss in float32."""
    reduced_bits_per_byte: float
    """Loss in the reduced form."""
    agreement_frac: float
    """Share of positions at which both forms have the same most likely token."""
    divergence_nats: float
    """Mean Kullback-Leibler divergence per position, from the float32 distribution."""
    worst: TextCost
    """The text with the largest divergence."""


def reduced_form_cost(
    language_model: LanguageModel, tokens: Tokens, form: Form
) -> tuple[QuantizationCost, str]:
    """Compare a reduced form of a model with float32 on passages spread evenly over a text.

    Returns:
        The cost, and the passage with the largest divergence.

    Raises:
        UserError: The text has fewer than two tokens, or the form is "file" and the weights are
            not quantized.
    """
    model, tokenizer = language_model.model, language_model.tokenizer
    reduced = decoder_of(model, language_model.path, form=form)
    width = min(_MOST_TOKENS, model.config.context_length, tokens.n_tokens)
    n_texts = min(_MOST_TEXTS, max(1, tokens.n_tokens // max(1, width)))
    starts = np.linspace(0, tokens.n_tokens - width, n_texts).round().astype(np.int64)
    texts = [tokens.read(int(start), int(start) + width).tolist() for start in starts]
    lengths = token_lengths(tokenizer)
    n_bytes = sum(int(lengths[ids[1:]].sum()) for ids in texts)
    cost = quantization_cost(Decoder(model), reduced, texts, n_bytes)
    return cost, tokenizer.decode(texts[cost.worst.index])


def quantization_cost(
    exact: Decoder, reduced: Decoder, texts: Sequence[Sequence[int]], n_bytes: int
) -> QuantizationCost:
    """Compare a reduced form of a model with float32 on texts.

    Args:
        exact: The model in float32.
        reduced: The same model in another form.
        texts: Token ids of each text, at least two and at most the context length.
        n_bytes: Bytes of all tokens but the first of each text.

    Raises:
        UserError: There are no texts, or one has less than two tokens or does not fit in the
            context.
    """
    if not texts or min(len(ids) for ids in texts) < 2:
        raise UserError("Texts of at least two tokens are expected.")
    costs = [_cost_of(i, exact, reduced, ids) for i, ids in enumerate(texts)]
    n_targets = sum(cost.n_targets for cost in costs)

    def mean(name: str) -> float:
        total: float = sum(getattr(cost, name) * cost.n_targets for cost in costs)
        return total / n_targets

    bits = n_targets / math.log(2) / max(1, n_bytes)
    return QuantizationCost(
        form=f"{reduced.form}: {reduced.kernels}",
        n_targets=n_targets,
        exact_bits_per_byte=mean("exact_nats") * bits,
        reduced_bits_per_byte=mean("reduced_nats") * bits,
        agreement_frac=mean("agreement_frac"),
        divergence_nats=mean("divergence_nats"),
        worst=max(costs, key=lambda cost: cost.divergence_nats),
    )


def _cost_of(index: int, exact: Decoder, reduced: Decoder, ids: Sequence[int]) -> TextCost:
    sums = torch.zeros(4, dtype=torch.float64)
    pairs = zip(_log_probabilities(exact, ids), _log_probabilities(reduced, ids), strict=True)
    start = 1
    for one, other in pairs:  # (T, V) each
        targets = torch.tensor(ids[start : start + len(one)])[:, None]
        start += len(one)
        agreed, divergence = differences(one, other)
        sums += torch.stack(
            (-one.gather(1, targets).sum(), -other.gather(1, targets).sum(), agreed, divergence)
        )
    exact_nats, reduced_nats, agreement_frac, divergence_nats = (sums / (len(ids) - 1)).tolist()
    return TextCost(
        index=index,
        n_targets=len(ids) - 1,
        exact_nats=exact_nats,
        reduced_nats=reduced_nats,
        agreement_frac=agreement_frac,
        divergence_nats=divergence_nats,
    )


def differences(exact: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
    """Compare log-probabilities (T, V) of two models.

    Returns:
        At how many positions the most likely token is the same, and the Kullback-Leibler divergence
        from `exact`, summed over the positions.
    """
    agreed = (exact.argmax(-1) == reduced.argmax(-1)).sum()
    # Ids without a token have minus infinity in both.
    return agreed, (exact.exp() * (exact - reduced).nan_to_num(0.0)).sum()


def _log_probabilities(decoder: Decoder, ids: Sequence[int]) -> Iterator[Tensor]:
    """Yield the log-probabilities (T, V) of the tokens after each id but the last, in parts."""
    row = decoder.new_row(len(ids))
    for start in range(0, len(ids) - 1, _FEW):
        part = ids[start : min(start + _FEW, len(ids) - 1)]
        yield F.log_softmax(decoder.read(part, row, n_last=len(part)), dim=-1)
