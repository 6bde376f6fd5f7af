"""How surprised a model is by a held-out text: nats a token, perplexity, bits a byte.

Every token after the first is a target exactly once, the tail included, so the figure does not
depend on the batch size, and two models are compared on the same bytes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.data.protocol import Tokens
from groundup.data.windows import Windows
from groundup.model.gpt import GPT
from groundup.tokenizer.protocol import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A model's surprise at a text."""

    nats: float
    """Mean per target."""
    n_targets: int
    """How many tokens were predicted."""
    n_bytes: int | None
    """How many bytes they stand for; None without a tokenizer."""

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model hesitates, on average.

        >>> Loss(nats=0.0, n_targets=1, n_bytes=None).perplexity
        1.0
        """
        return math.exp(self.nats) if self.nats < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Bits to store one byte of the text with this model; comparable across tokenizers.

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
    tokenizer: Tokenizer | None = None,
    max_windows: int | None = None,
    loss: Callable[..., Tensor] | None = None,
    rank: int = 0,
    world_size: int = 1,
    add_up: Callable[..., list[float]] = _as_they_are,
) -> Loss:
    """Measure the loss on a token store, every target once.

    Args:
        model: The model; it is left in the mode (training or not) it came in.
        tokens: The text's tokens, a `TokenStore` for example.
        context_length: Tokens per window; None: the model's own.
        batch_size: Windows at once; the result does not depend on it but for rounding.
        stride: How far a window slides; None: its own length. A shorter one gives each target
            more tokens before it, for more work.
        tokenizer: Counts the bytes behind the targets; special tokens stand for none, but their
            surprise counts.
        max_windows: Look at that many windows only, spread evenly over the text; None: all.
        loss: Measures a batch in place of `model.loss`, e.g. in another number format.
        rank: Which of several processes this is.
        world_size: How many share the work: each takes every so-manieth window.
        add_up: Gives the sums of some numbers over all of them.

    Raises:
        UserError: The text has fewer than two tokens, or the stride is longer than the context.
    """
    length = model.config.context_length if context_length is None else context_length
    windows = Windows(tokens, length, stride, coverage="exact")
    indices = np.arange(len(windows))
    if max_windows is not None and max_windows < len(windows):
        indices = np.linspace(0, len(windows) - 1, max_windows).round().astype(np.int64)
    # Each process makes as many batches as the others; a window too many does not count.
    n_own = len(indices[rank::world_size])
    n_each = len(indices[::world_size])
    indices = np.append(indices[rank::world_size], indices[: n_each - n_own])
    lengths = None if tokenizer is None else token_lengths(tokenizer)
    total_nats, n_targets, n_bytes = 0.0, 0, 0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(indices), batch_size):
            inputs, targets = windows.gather(indices[start : start + batch_size])
            targets = np.where(
                np.arange(len(targets))[:, None] < n_own - start, targets, IGNORE_INDEX
            )
            nats = (loss or model.loss)(
                torch.from_numpy(np.ascontiguousarray(inputs)).to(model.device),
                torch.from_numpy(np.ascontiguousarray(targets)).to(model.device),
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


def token_lengths(tokenizer: Tokenizer) -> Int[np.ndarray, " V"]:
    """Bytes behind each id; a special token stands for none."""
    special = set(tokenizer.special_tokens.values())
    return np.array(
        [
            0 if index in special else len(tokenizer.token_bytes(index))
            for index in range(tokenizer.vocab_size)
        ],
        dtype=np.int64,
    )


def target_bytes(tokens: Tokens, tokenizer: Tokenizer, *, skip: int = 1) -> bytes:
    """The bytes behind a store's targets, special tokens left out: what a yardstick must predict.

    Args:
        tokens: The text's tokens.
        tokenizer: Turns ids into bytes.
        skip: Leave out the first tokens; the very first is never a target.
    """
    special = set(tokenizer.special_tokens.values())
    pieces = [
        b"" if index in special else tokenizer.token_bytes(index)
        for index in range(tokenizer.vocab_size)
    ]
    ids: NDArray[np.integer] = tokens.read(skip, tokens.n_tokens)
    return b"".join([pieces[index] for index in ids.tolist()])
