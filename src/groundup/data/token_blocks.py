"""What the readers of token files have in common: sizes, and ids that fit the vocabulary."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.data.store import TokenStore

BLOCK_TOKENS = 2**22
"""Number of ids read at once."""
HEAD_BYTES = 1024


def read_head(path: Path) -> tuple[bytes, int]:
    """Return the first kilobyte of a token file, and its size.

    Raises:
        UserError: The file is missing, empty or unreadable.
    """
    n_bytes = file_size(path)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error
    if not n_bytes:
        raise UserError("The file is empty. A file of token ids is expected.", where=path)
    return head, n_bytes


def refuse_narrow(path: Path, dtype: np.dtype[Any], n_ids: int) -> None:
    """Refuse ids of two bytes for a vocabulary that needs more: they were made by another one."""
    if dtype.itemsize == 2 and n_ids > 2**16:
        raise UserError(
            "The file is read as ids of 2 bytes, which hold a vocabulary of at most 65,536, and "
            f"this one has {n_ids:,}. The tokenizer that made the ids is expected; llm.c's and "
            "Megatron's formats also hold ids of 4 bytes.",
            where=path,
        )


def refuse_unknown(
    path: Path, ids: NDArray[np.integer], first: int, vocab_size: int | None
) -> None:
    """Refuse ids that the vocabulary does not have; `first` is the position of the first one."""
    if vocab_size is None or not len(ids):
        return
    if int(ids.max()) >= vocab_size or int(ids.min()) < 0:
        at = int(np.flatnonzero((ids >= vocab_size) | (ids < 0))[0])
        raise UserError(
            f"Token {first + at:,} has the id {int(ids[at]):,}. Ids from 0 to {vocab_size - 1:,} "
            "are expected: those of the tokenizer that made the file.",
            where=path,
        )


def file_size(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        UserError: There is no such file.
    """
    if not path.is_file():
        raise UserError("There is no such file.", where=path)
    return path.stat().st_size


def blocks(store: TokenStore) -> Iterator[NDArray[np.integer]]:
    """Read a store block by block."""
    for start in range(0, store.n_tokens, BLOCK_TOKENS):
        yield store.read(start, min(start + BLOCK_TOKENS, store.n_tokens))
