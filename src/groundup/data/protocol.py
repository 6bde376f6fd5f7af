"""What windows read tokens from: a token store on disk, or an array in memory."""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.data.gather import gather_rows


@runtime_checkable
class Tokens(Protocol):
    """A sequence of token ids that can be read in slices and in batches of slices."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        ...

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """Index of the first token of each document, ascending."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Return tokens[start:stop], of any integer type."""
        ...

    def gather(self, starts: NDArray[np.int64], width: int) -> NDArray[np.integer]:
        """Return the `width` tokens that follow each start, (B, width)."""
        ...


class ArrayTokens:
    """An array in memory that is read like a token store.

    Args:
        array: Token ids, one dimension.
        document_starts: Index of the first token of each document. None: the array is one
            document.

    Raises:
        UserError: The array is not a one-dimensional array of integers.
    """

    def __init__(
        self, array: NDArray[np.integer], document_starts: Sequence[int] | None = None
    ) -> None:
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise UserError(
                f"The token array has type {array.dtype} and shape {array.shape}. "
                "An integer array of one dimension is expected."
            )
        self._array = array
        self.document_starts = np.array([0] if document_starts is None else document_starts)

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self._array)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the ids; it does not depend on the integer type."""
        return sha256_bytes(self._array.astype("<i8").tobytes())

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Return tokens[start:stop] as a view."""
        return self._array[start:stop]

    def gather(self, starts: NDArray[np.int64], width: int) -> NDArray[np.integer]:
        """Return the `width` tokens that follow each start, (B, width), as a copy."""
        return gather_rows(self._array, starts, width)
