"""The loss of a model on a text: nats/token, perplexity, bits/byte.

Every token after the first is a target exactly once, also at the end of the text, so the result
does not depend on the batch size, and two models are compared on the same bytes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.protocol import Tokens
from groundup.data.windows import Documents, Windows
from groundup.model.gpt import GPT
from groundup.model.loss import head_cross_entropy
from groundup.model.state import TextState
from groundup.tokenizer.protocol import Tokenizer

_LONG = 2**14
"""Context length from which on a window is computed in segments, for less memory."""
_AT_ONCE, _LEAST_SEGMENT = 2**15, 512
"""Tokens that are then computed at once, and the fewest of one window."""
_BLOCK_TOKENS = 2**18
"""Tokens that are decoded at once."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The mean loss of a model on a text."""

    nats: float
    """Mean per target."""
    n_targets: int
    """Number of tokens that were predicted."""
    n_bytes: int | None
    """Number of bytes of these tokens. None: no tokenizer was given."""

    @property
    def perplexity(self) -> float:
        """The exponential of the loss: the number of equally likely tokens with the same loss.

        >>> Loss(nats=0.0, n_targets=1, n_bytes=None).perplexity
        1.0
        """
        return math.exp(self.nats) if self.nats < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Bits to encode one byte of the text with this model; comparable across tokenizers.

        >>> Loss(nats=math.log(2), n_targets=8, n_bytes=4).bits_per_byte
        2.0
        """
        if not self.n_bytes:
            return None
        return self.nats * self.n_targets / math.log(2) / self.n_bytes


def _as_they_are(*sums: float | int) -> list[float]:
    return [float(each) for each in sums]


def evaluate_loss(
    model: GPT,
    tokens: Tokens,
    *,
    context_length: int | None = None,
    batch_size: int = 16,
    stride: int | None = None,
    documents: Documents = "stream",
    tokenizer: Tokenizer | None = None,
    max_windows: int | None = None,
    loss: Callable[..., Tensor] | None = None,
    rank: int = 0,
    world_size: int = 1,
    add_up: Callable[..., list[float]] = _as_they_are,
) -> Loss:
    """Measure the loss on a token store, each target once.

    Args:
        model: The model; its training mode is restored afterwards.
        tokens: The tokens of the text, for example a `TokenStore`.
        context_length: Tokens per window. None: the context length of the model.
        batch_size: Windows per batch; the result depends on it only by rounding.
        stride: Distance between two windows. None: the context length. A shorter stride gives
            each target more context, for more computation.
        documents: How the windows of training hold documents. Where they are separate, the first
            token of a document is not a target.
        tokenizer: Counts the bytes of the targets; special tokens have none, but their loss counts.
        max_windows: Use only this many windows, spread evenly over the text. None: all.
        loss: Computes the loss of a batch instead of `model.loss`, e.g. in mixed precision.
        rank: The number of this process, for several processes.
        world_size: The number of processes; each takes every `world_size`-th window.
        add_up: Sums numbers over all processes.

    Raises:
        UserError: The text has fewer than two tokens, the stride is longer than the context, or
            windows with this kind of documents take none.
    """
    length = model.config.context_length if context_length is None else context_length
    windows = loss_windows(tokens, length, stride, documents)
    indices = np.arange(len(windows))
    if max_windows is not None and max_windows < len(windows):
        indices = np.linspace(0, len(windows) - 1, max_windows).round().astype(np.int64)
    # All processes run the same number of batches; an extra window does not count.
    n_own = len(indices[rank::world_size])
    n_each = len(indices[::world_size])
    indices = np.append(indices[rank::world_size], indices[: n_each - n_own])
    lengths = None if tokenizer is None else token_lengths(tokenizer)
    total_nats, n_targets, n_bytes = 0.0, 0, 0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(indices), batch_size):
            some = indices[start : start + batch_size]
            inputs, targets = windows.gather(some)
            targets = np.where(
                np.arange(len(targets))[:, None] < n_own - start, targets, IGNORE_INDEX
            )
            batch = [inputs, targets]
            if documents != "stream":
                batch.append(windows.document_lengths(some))
            nats = (loss or _loss_of(model, length, len(some), documents))(
                *(torch.from_numpy(np.ascontiguousarray(x)).to(model.device) for x in batch),
                reduction="sum",
            )
            counted = targets[targets != IGNORE_INDEX]
            total_nats += nats.item()
            n_targets += len(counted)
            n_bytes += 0 if lengths is None else int(lengths[counted].sum())
    model.train(was_training)
    total_nats, *counts = add_up(total_nats, n_targets, n_bytes)
    n_targets, n_bytes = map(round, counts)
    return Loss(
        nats=total_nats / n_targets,
        n_targets=n_targets,
        n_bytes=None if lengths is None else n_bytes,
    )


def _loss_of(
    model: GPT, context_length: int, n_rows: int, documents: Documents
) -> Callable[..., Tensor]:
    """Return the loss of a model, computed in segments where windows are long."""
    if context_length < _LONG or documents != "stream":
        return model.loss
    segment = max(_LEAST_SEGMENT, _AT_ONCE // n_rows)

    def loss(ids: Tensor, targets: Tensor, reduction: Literal["sum"]) -> Tensor:
        state = TextState.start(model.config.kinds, ids)
        total = torch.zeros((), device=ids.device)
        for start in range(0, ids.shape[1], segment):
            here = slice(start, start + segment)
            nats, state = segment_loss(model, ids[:, here], targets[:, here], state)
            total += nats
        return total

    return loss


def segment_loss(
    model: GPT, ids: Tensor, targets: Tensor, state: TextState
) -> tuple[Tensor, TextState]:
    """Compute the summed loss of a segment of a text in nats, and the state after it.

    Args:
        model: The model.
        ids: Token ids, (B, T) int64.
        targets: The id after each of them, of the same shape.
        state: The state before the segment.
    """
    hidden, after = model.segment(ids, state)
    return head_cross_entropy(hidden, model.head.weight, targets, reduction="sum"), after


def loss_windows(
    tokens: Tokens, context_length: int, stride: int | None, documents: Documents
) -> Windows:
    """Make the windows that a loss is measured on: each target, or each inside a document, once.

    Raises:
        UserError: See `Windows`.
    """
    if documents in ("packed", "padded"):  # the same predictions, and packed has less padding
        if stride is not None:
            raise UserError(
                f"documents is {documents}, and the stride is {stride}. Rows of whole documents "
                "take no stride.",
                settings={"documents": "isolated"},
            )
        return Windows(tokens, context_length, documents="packed")
    return Windows(tokens, context_length, stride, coverage="exact", documents=documents)


def token_lengths(tokenizer: Tokenizer) -> Int[np.ndarray, " V"]:
    """Count the bytes of each token; a special token has none."""
    special = set(tokenizer.special_tokens.values())
    return np.array(
        [
            0 if index in special else len(tokenizer.token_bytes(index))
            for index in range(tokenizer.vocab_size)
        ],
        dtype=np.int64,
    )


def target_bytes(
    tokens: Tokens, tokenizer: Tokenizer, *, skip: int = 1, documents: Documents = "stream"
) -> Iterator[bytes]:
    """Decode the targets of a store, without special tokens: what a baseline must predict.

    Args:
        tokens: The tokens of the text.
        tokenizer: Turns ids into bytes.
        skip: Number of tokens to leave out at the start; the first one is never a target.
        documents: Where they are separate, the first token of each is left out.

    Yields:
        The bytes in blocks.
    """
    special = set(tokenizer.special_tokens.values())
    pieces = [
        b"" if index in special else tokenizer.token_bytes(index)
        for index in range(tokenizer.vocab_size)
    ]
    for start in range(skip, tokens.n_tokens, _BLOCK_TOKENS):
        stop = min(start + _BLOCK_TOKENS, tokens.n_tokens)
        ids: NDArray[np.integer] = tokens.read(start, stop)
        if documents != "stream":
            starts = tokens.document_starts
            ids = np.delete(ids, np.unique(starts[(starts >= start) & (starts < stop)]) - start)
        yield b"".join([pieces[index] for index in ids.tolist()])
