"""Run a model over texts in batches of fixed shapes, so that a result depends on the text alone.

A matrix product adds up numbers in an order that depends on its shape. In bfloat16 another order
changes a hidden state in the third digit. Each text is therefore computed in a batch whose shape
follows from the text's own length: the length is rounded up, and rows are added until the batch is
full. Whatever else is in the batch, and however many texts there are, the result is the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

BATCH_TOKENS = 512
"""Positions of a batch: enough for fast products, and little to waste on a single text."""

Forward = Callable[[Int[Tensor, "B T"]], Float[Tensor, "B T C"]]
Take = Callable[[list[int], Float[Tensor, "B T C"], Int[Tensor, " B"]], None]
OnTokens = Callable[[int, int], None]
"""Called with the number of tokens that are done, and their total."""


def padded_length(n_tokens: int, limit: int) -> int:
    """Round a length up; at most an eighth of a long row is padding.

    >>> [padded_length(n, 1000) for n in (1, 9, 70, 300, 999)]
    [8, 16, 80, 320, 1000]
    """
    step = 8 if n_tokens <= 64 else 16 if n_tokens <= 256 else 64
    return min(limit, -(-n_tokens // step) * step)


def fixed_batches(lengths: Sequence[int], limit: int) -> Iterator[tuple[list[int], int, int]]:
    """Yield the row numbers of each batch, and its shape (B, T).

    >>> list(fixed_batches([3, 300, 5], limit=512))
    [([0, 2], 64, 8), ([1], 1, 320)]
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        by_length[padded_length(length, limit)].append(row)
    for T in sorted(by_length):
        B = max(1, BATCH_TOKENS // T)
        rows = by_length[T]
        for start in range(0, len(rows), B):
            yield rows[start : start + B], B, T


def run_texts(
    forward: Forward,
    rows: Sequence[Sequence[int]],
    take: Take,
    *,
    device: torch.device,
    dtype: torch.dtype,
    limit: int,
    on_tokens: OnTokens | None = None,
) -> None:
    """Compute the hidden states of all texts.

    Args:
        forward: Computes the hidden states of a batch.
        rows: The token ids of each text, at least one.
        take: Called for each batch with row numbers, hidden states and lengths. Rows after the
            last number are padding.
        device: Device of the model.
        dtype: Format of the matrix products. The hidden states of bfloat16 products are summed in
            float32.
        limit: The context length of the model.
        on_tokens: Called after each batch.
    """
    lengths = [len(ids) for ids in rows]
    total, done = sum(lengths), 0
    is_mixed = dtype != torch.float32
    # One context for all batches: it keeps the rounded copies of the weights.
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=is_mixed):
        for numbers, B, T in fixed_batches(lengths, limit):
            ids = torch.zeros(B, T, dtype=torch.int64)
            for row, number in enumerate(numbers):
                ids[row, : lengths[number]] = torch.tensor(rows[number])
            n_tokens = [lengths[number] for number in numbers] + [1] * (B - len(numbers))
            hidden = forward(ids.to(device)).float()  # (B, T, C)
            take(numbers, hidden, torch.tensor(n_tokens, device=device))
            done += sum(n_tokens[: len(numbers)])
            if on_tokens is not None:
                on_tokens(done, total)
