"""The loader of the book, as a drop-in replacement: `GPTDatasetV1` and `create_dataloader_v1`.

Defaults, lengths, values, dtypes, batch type and use of torch's random state are those of Raschka,
"Build a Large Language Model (From Scratch)" (2024), chapter 2. The text is stored once, at two or
four bytes per token, instead of two int64 tensors per window (16 * T / stride bytes per token).
"""

import logging
import operator
import pickle
import sys
from collections.abc import Callable, Iterable, Sized
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from groundup.base.arguments import WrongTypeError, own_checks, whole_number
from groundup.base.errors import UserError
from groundup.data.encoder import Encoder, encode_text
from groundup.data.windows import Windows

_log = logging.getLogger(__name__)

Pair = tuple[Tensor, Tensor]


class GPTDatasetV1(Dataset[Pair]):
    """All windows of a text as (inputs, targets), (T,) int64 each, targets shifted by one.

    `input_ids` and `target_ids` are the lists of the book. They are made when they are first used,
    and from then on items and length are read from them, so changes to them are seen.

    Args:
        txt: Text; `<|endoftext|>` in it is the special token, as in the book, if the tokenizer has
            it.
        tokenizer: Tokenizer with `encode(text, allowed_special=...)` or `encode(text)`.
        max_length: T, tokens per window.
        stride: Distance between the starts of two windows, in tokens.

    Raises:
        UserError: An argument has the wrong type or is out of range, or the tokenizer returns
            something else than token ids.
    """

    @own_checks
    def __init__(self, txt: str, tokenizer: Encoder, max_length: int, stride: int) -> None:
        max_length = whole_number("max_length", max_length)
        stride = whole_number("stride", stride)
        ids = encode_text(tokenizer, txt)
        self.tokenizer = tokenizer
        self._windows: Windows | None = None
        if len(ids) > max_length:
            # A stride beyond the text gives one window, as its length does.
            self._windows = Windows(ids, max_length, min(stride, len(ids)))
        else:
            _log.warning(
                "The text has %d token%s, too few for a window of max_length=%d inputs and their "
                "targets, so the dataset is empty. Use a longer text or a smaller max_length.",
                len(ids), "" if len(ids) == 1 else "s", max_length,
            )  # fmt: skip

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.input_ids) if self._has_lists else self._n_windows

    @overload
    def __getitem__(self, idx: SupportsIndex) -> Pair: ...
    @overload
    def __getitem__(self, idx: slice) -> tuple[list[Tensor], list[Tensor]]: ...
    @own_checks  # the lists hold what the user puts into them
    def __getitem__(self, idx: SupportsIndex | slice) -> Pair | tuple[list[Tensor], list[Tensor]]:
        """Return one window's inputs and targets; they share no memory."""
        if isinstance(idx, slice):
            return self.input_ids[idx], self.target_ids[idx]
        if self._has_lists:
            return self.input_ids[idx], self.target_ids[idx]
        return self._window(idx)

    @own_checks  # a subclass may return anything
    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Pair]:
        """Return several windows at once; torch's DataLoader and `Subset` call this."""
        if self._has_lists or type(self).__getitem__ is not _GETITEM:
            return [self[index] for index in indices]
        places, n = [operator.index(index) for index in indices], self._n_windows
        if not all(-n <= place < n for place in places):
            raise IndexError(f"windows {places} are out of range for {n}")
        if self._windows is None:
            return []
        inputs, targets = self._windows.gather(np.array(places, dtype=np.int64) % n)
        return list(zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True))

    @cached_property
    def input_ids(self) -> list[Tensor]:
        """Inputs of all windows."""
        return [self._window(i)[0] for i in range(self._n_windows)]

    @cached_property
    def target_ids(self) -> list[Tensor]:
        """Targets of all windows."""
        return [self._window(i)[1] for i in range(self._n_windows)]

    @property
    def _has_lists(self) -> bool:
        return "input_ids" in self.__dict__ or "target_ids" in self.__dict__

    @property
    def _n_windows(self) -> int:
        return 0 if self._windows is None else len(self._windows)

    def _window(self, idx: SupportsIndex) -> Pair:
        if self._windows is None:
            raise IndexError(f"window {operator.index(idx)} is out of range for 0")
        inputs, targets = self._windows[idx]
        return torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))

    def __getstate__(self) -> dict[str, Any]:
        """Return what worker processes get: without a tokenizer that cannot be pickled."""
        state = self.__dict__.copy()
        try:
            pickle.dumps(state.get("tokenizer"))
        except Exception:  # of any class: it comes from the tokenizer
            del state["tokenizer"]
        return state


_GETITEM = GPTDatasetV1.__getitem__


@own_checks
def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool | None = None,
    drop_last: bool = True,
    num_workers: int = 0,
    *,
    tokenizer: Encoder | None = None,
    sampler: "Sampler[int] | Iterable[int] | Callable[[GPTDatasetV1], Sampler[int]] | None" = None,
    pin_memory: bool = False,
    generator: torch.Generator | None = None,
    collate_fn: Callable[[list[Pair]], Any] | None = None,
    worker_init_fn: Callable[[int], None] | None = None,
    persistent_workers: bool = False,
) -> "DataLoader[Any]":
    """Create the book's loader; each batch is a list [inputs, targets], (B, T) int64 each.

    A text that is shorter than a window, or gives no full batch while `drop_last` is on, gives an
    empty loader as in the book, and a warning is logged.

    Args:
        txt: Text.
        batch_size: B, windows per batch.
        max_length: T, tokens per window.
        stride: Distance between the starts of two windows, in tokens.
        shuffle: Use a new order in each epoch, drawn from `generator` or torch's global random
            state. None: True, as in the book, unless a sampler is given.
        drop_last: Drop the last batch if it is not full.
        num_workers: Number of worker processes; 0 loads in this process.
        tokenizer: Tokenizer of the text. None uses tiktoken's "gpt2", as the book does.
        sampler: Order of the windows, as torch's DataLoader takes it, or a function that makes one
            from the dataset: `sampler=torch.utils.data.DistributedSampler` gives each process of a
            process group its own windows. Call `loader.sampler.set_epoch(epoch)` before each epoch,
            otherwise every epoch has the same order.
        pin_memory: Copy batches into pinned memory, for a faster copy to a GPU.
        generator: Random state of the order. None uses torch's global random state.
        collate_fn: Function that makes a batch from a list of windows. None stacks them.
        worker_init_fn: Function called in each worker process with its number.
        persistent_workers: Keep the worker processes from one epoch to the next.

    Raises:
        UserError: An argument has the wrong type or is out of range, or both a sampler and
            `shuffle=True` are given.
    """
    if hasattr(batch_size, "encode") and not isinstance(batch_size, str):
        raise WrongTypeError(
            "A tokenizer was passed as batch_size, the second argument. Pass it by name: "
            "create_dataloader_v1(txt, tokenizer=tokenizer)."
        )
    batch_size = whole_number("batch_size", batch_size)
    num_workers = whole_number("num_workers", num_workers, at_least=0)
    if batch_size > sys.maxsize:
        raise UserError(f"batch_size is {batch_size}. At most {sys.maxsize} is expected.")
    if sampler is not None and shuffle:
        raise UserError(
            "A sampler and shuffle=True were given. The sampler decides the order, so shuffle must "
            "be left out.",
            settings={"shuffle": False},
        )
    dataset = GPTDatasetV1(txt, _gpt2() if tokenizer is None else tokenizer, max_length, stride)
    _warn_of_shared_windows(len(dataset), sampler)
    if not len(dataset):
        sampler, shuffle = None, False  # torch's random sampler refuses an empty dataset
    elif callable(sampler):
        sampler = sampler(dataset)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=sampler is None if shuffle is None else shuffle,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=generator,
        collate_fn=collate_fn,
        worker_init_fn=worker_init_fn,
        persistent_workers=persistent_workers,
    )
    n_windows = len(loader.sampler) if isinstance(loader.sampler, Sized) else batch_size
    if drop_last and 0 < n_windows < batch_size:
        _log.warning(
            "There are %d windows, fewer than one batch of %d, and drop_last drops an incomplete "
            "batch, so the loader is empty. Use a longer text, a smaller stride, batch_size=%d or "
            "drop_last=False.",
            n_windows, batch_size, n_windows,
        )  # fmt: skip
    return loader


def _warn_of_shared_windows(n_windows: int, sampler: object) -> None:
    """Warn if several processes train together and would all read the same windows."""
    distributed = torch.distributed
    if sampler is None and distributed.is_available() and distributed.is_initialized():
        n_processes = distributed.get_world_size()
        if n_processes > 1:
            _log.warning(
                "%d processes train together, and each of them reads all %d windows. Pass "
                "sampler=torch.utils.data.DistributedSampler to give each process its own part, "
                "and call loader.sampler.set_epoch(epoch) before each epoch.",
                n_processes, n_windows,
            )  # fmt: skip


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
