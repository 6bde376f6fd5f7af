"""The roadmap's own loader, drop-in: `GPTDatasetV1` and `create_dataloader_v1`.

Same defaults, lengths, values, dtypes, batch type and use of torch's random state as in Raschka,
"Build a Large Language Model (From Scratch)" (2024), chapter 2; but the text is kept once, at two
or four bytes a token, not as two int64 tensors for every window (16 * T / stride bytes a token).
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
    """Any tokenizer with the `encode` of the book: tiktoken's, or one of ours."""

    def encode(self, text: str, *, allowed_special: AbstractSet[str]) -> list[int]:
        """Turn text into ids."""
        ...


class GPTDatasetV1(Dataset[tuple[Tensor, Tensor]]):
    """All windows of a text as (inputs, targets), (T,) int64 each, targets shifted by one.

    Args:
        txt: The text; `<|endoftext|>` in it is the special token, as in the book.
        tokenizer: Anything with `encode(text, allowed_special=...)`.
        max_length: T, tokens per window.
        stride: How far the window slides.

    Raises:
        UserError: The text is shorter than one window.
    """

    def __init__(self, txt: str, tokenizer: Encoder, max_length: int, stride: int) -> None:
        ids = tokenizer.encode(txt, allowed_special={"<|endoftext|>"})
        dtype = token_dtype(max(ids, default=0) + 1)
        self._windows = Windows(np.array(ids, dtype=dtype), max_length, stride)

    def __len__(self) -> int:
        """Count the windows."""
        return len(self._windows)

    def __getitem__(self, idx: SupportsIndex) -> tuple[Tensor, Tensor]:
        """Give one window's inputs and targets, as tensors of their own."""
        inputs, targets = self._windows[idx]
        return torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Give several windows at once: torch's DataLoader asks so, and `Subset` too."""
        n = len(self)
        if not all(-n <= index < n for index in indices):
            raise IndexError(f"windows {indices} of {n}")
        inputs, targets = self._windows.gather(np.array(indices, dtype=np.int64) % n)
        return list(zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True))

    @property
    def input_ids(self) -> "Column":
        """All inputs, window by window, as the book's list of that name."""
        return Column(self, 0)

    @property
    def target_ids(self) -> "Column":
        """All targets, window by window, as the book's list of that name."""
        return Column(self, 1)


class Column(Sequence[Tensor]):
    """One half of each pair of a dataset, made when asked for."""

    def __init__(self, dataset: GPTDatasetV1, half: int) -> None:
        self._dataset, self._half = dataset, half

    def __len__(self) -> int:
        """Count the windows."""
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """Give one window's half, or a list of them."""
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
    """Make the book's loader; each batch is a list [inputs, targets], (B, T) int64 each.

    Args:
        txt: The text.
        batch_size: B.
        max_length: T.
        stride: How far the window slides.
        shuffle: Another order each epoch, drawn from torch's global random state.
        drop_last: Leave out a last batch that is not full.
        num_workers: Processes that make batches; 0 makes them here.
        tokenizer: None takes tiktoken's "gpt2", as the book does.

    Raises:
        UserError: The text is shorter than a window, or gives no full batch and `drop_last` is on:
            the loader would be empty, and a training loop over it would do nothing, or give NaN.
    """
    dataset = GPTDatasetV1(txt, tokenizer or _gpt2(), max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise UserError(
            f"the text gives {len(dataset)} windows, fewer than one batch of {batch_size}, "
            "and drop_last leaves none",
            need="a longer text, a smaller stride, a smaller batch or drop_last=False",
            type_this=f"create_dataloader_v1(..., batch_size={len(dataset)})",
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
        import tiktoken  # optional: not among the package's own dependencies
    except ImportError as error:
        raise UserError(
            "the book's default tokenizer, tiktoken's gpt2, is not installed",
            need="tiktoken, or tokenizer=...",
            type_this="pip install tiktoken",
        ) from error
    encoder: Encoder = tiktoken.get_encoding("gpt2")
    return encoder
