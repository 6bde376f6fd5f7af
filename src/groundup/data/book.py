"""The loader of the book, as a drop-in replacement: `GPTDatasetV1` and `create_dataloader_v1`.

Defaults, lengths, values, dtypes, batch type and use of torch's random state are those of Raschka,
"Build a Large Language Model (From Scratch)" (2024), chapter 2. The text is stored once, at two or
four bytes per token, instead of two int64 tensors per window (16 * T / stride bytes per token).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, SupportsIndex, overload, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from groundup.base.errors import UserError
from groundup.data.store import token_dtype
from groundup.data.windows import Windows


@runtime_checkable
class Encoder(Protocol):
    """Any tokenizer with the `encode` of the book: one of tiktoken or of this package."""

    def encode(self, text: str, *, allowed_special: AbstractSet[str]) -> list[int]:
        """Return the ids of a text."""
        ...


class GPTDatasetV1(Dataset[tuple[Tensor, Tensor]]):
    """All windows of a text as (inputs, targets), (T,) int64 each, targets shifted by one.

    Args:
        txt: Text; `<|endoftext|>` in it is the special token, as in the book.
        tokenizer: Tokenizer with `encode(text, allowed_special=...)`.
        max_length: T, tokens per window.
        stride: Distance between the starts of two windows, in tokens.

    Raises:
        UserError: The text is shorter than one window.
    """

    def __init__(self, txt: str, tokenizer: Encoder, max_length: int, stride: int) -> None:
        ids = tokenizer.encode(txt, allowed_special={"<|endoftext|>"})
        dtype = token_dtype(max(ids, default=0) + 1)
        self._windows = Windows(np.array(ids, dtype=dtype), max_length, stride)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._windows)

    def __getitem__(self, idx: SupportsIndex) -> tuple[Tensor, Tensor]:
        """Return one window's inputs and targets; they share no memory."""
        inputs, targets = self._windows[idx]
        return torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return several windows at once; torch's DataLoader and `Subset` call this."""
        n = len(self)
        if not all(-n <= index < n for index in indices):
            raise IndexError(f"windows {indices} are out of range for {n}")
        inputs, targets = self._windows.gather(np.array(indices, dtype=np.int64) % n)
        return list(zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True))

    @property
    def input_ids(self) -> "Column":
        """Inputs of all windows, as the list of that name in the book."""
        return Column(self, 0)

    @property
    def target_ids(self) -> "Column":
        """Targets of all windows, as the list of that name in the book."""
        return Column(self, 1)


class Column(Sequence[Tensor]):
    """Inputs or targets of a dataset as a sequence, computed on access."""

    def __init__(self, dataset: GPTDatasetV1, half: int) -> None:
        self._dataset, self._half = dataset, half

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """Return the tensor of one window, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self._dataset[i][self._half] for i in range(*index.indices(len(self)))]
        return self._dataset[index][self._half]


def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    *,
    tokenizer: Encoder | None = None,
) -> "DataLoader[Any]":
    """Create the book's loader; each batch is a list [inputs, targets], (B, T) int64 each.

    Args:
        txt: Text.
        batch_size: B, windows per batch.
        max_length: T, tokens per window.
        stride: Distance between the starts of two windows, in tokens.
        shuffle: Use a new order in each epoch, drawn from torch's global random state.
        drop_last: Drop the last batch if it is not full.
        num_workers: Number of worker processes; 0 loads in this process.
        tokenizer: Tokenizer of the text. None uses tiktoken's "gpt2", as the book does.

    Raises:
        UserError: The text is shorter than a window, or gives no full batch while `drop_last` is
            on: a training loop over an empty loader would do nothing, or report NaN.
    """
    dataset = GPTDatasetV1(txt, tokenizer or _gpt2(), max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise UserError(
            f"The text gives {len(dataset)} windows, fewer than one batch of {batch_size}, and "
            "drop_last drops an incomplete batch. A longer text, a smaller stride, a smaller batch "
            "or drop_last=False is expected.",
            settings={"batch_size": len(dataset)},
        )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        num_workers=num_workers,
    )


def _gpt2() -> Encoder:
    try:
        import tiktoken  # optional dependency
    except ImportError as error:
        raise UserError(
            "The default tokenizer is tiktoken's gpt2, and tiktoken is not installed. Install it, "
            "or pass another tokenizer with tokenizer=....",
            command="pip install tiktoken",
        ) from error
    encoder: Encoder = tiktoken.get_encoding("gpt2")
    return encoder
