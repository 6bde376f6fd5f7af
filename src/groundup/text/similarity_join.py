"""Find all pairs of sets with a Jaccard similarity above a threshold, without comparing every pair.

Similar sets share one of the rarest elements of each: of |x| elements, those after the first
|x| - ceil(threshold |x|) + 1 cannot be all that is shared. Only pairs that share an element of
these prefixes are compared, so that no pair is missed.

Source: Chaudhuri, Ganti and Kaushik (2006), "A primitive operator for similarity joins in data
cleaning"; Bayardo, Ma and Srikant (2007), "Scaling up all pairs similarity search".
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from groundup.text.grams import Grams

_BLOCK = 2**21
"""Shared elements of a block of rows; bounds the memory."""
_CHUNK = 2**15
"""Pairs that are compared at once."""
_SLACK = 1e-9
"""More than the rounding error of threshold x size."""

Numbers = NDArray[np.int64]
Pairs = tuple[Numbers, Numbers, NDArray[np.float64]]
"""Row numbers of the first sets, of the second sets, and their similarities."""


def similar_pairs(rows: Grams, others: Grams, threshold: float) -> Iterator[Pairs]:
    """Find all pairs of a row and another row whose similarity is at least the threshold."""
    for _, i, j in candidate_pairs(rows, others, threshold):
        jaccard = jaccard_of(rows, others, i, j)
        is_near = jaccard >= threshold
        yield i[is_near], j[is_near], jaccard[is_near]


def candidate_pairs(
    rows: Grams,
    others: Grams,
    threshold: float,
    *,
    is_triangle: bool = False,
    prefixes: Grams | None = None,
) -> Iterator[tuple[int, Numbers, Numbers]]:
    """Find all pairs that may be similar, a block of rows at a time.

    Args:
        rows: The first sets.
        others: The second sets, with the same columns.
        threshold: Least similarity, above 0.
        is_triangle: Whether both are the same, so that each pair is wanted once.
        prefixes: With `is_triangle`, the elements that a wanted pair shares. None: `prefixes_of`
            the rows.

    Yields:
        The row after the block, the row numbers of the first sets, all in this block, and those of
        the second sets, which are smaller with `is_triangle`.
    """
    if not (rows.shape[0] and others.shape[0]):
        return
    sizes, other_sizes = np.diff(rows.indptr), np.diff(others.indptr)
    prefixes = prefixes_of(rows, threshold) if prefixes is None else prefixes
    index = (prefixes if is_triangle else prefixes_of(others, threshold)).T.tocsr()
    work = np.concatenate([[0], np.cumsum(prefixes @ np.diff(index.indptr))])
    start = 0
    while start < len(sizes):
        end = max(start + 1, int(np.searchsorted(work, work[start] + _BLOCK, side="right")) - 1)
        shared = (prefixes[start:end] @ index).tocoo()
        i, j = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        smaller, larger = np.minimum(sizes[i], other_sizes[j]), np.maximum(sizes[i], other_sizes[j])
        is_candidate = smaller >= threshold * larger - _SLACK
        if is_triangle:
            is_candidate &= j < i
        yield end, i[is_candidate], j[is_candidate]
        start = end


def prefixes_of(rows: Grams, threshold: float) -> Grams:
    """Keep the rarest elements of each set, of which similar ones share at least one."""
    sizes = np.diff(rows.indptr)
    kept = np.minimum(sizes, sizes - np.ceil(threshold * sizes - _SLACK).astype(np.int64) + 1)
    place = np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], sizes)
    is_kept = place < np.repeat(kept, sizes)
    ends = np.concatenate([[0], np.cumsum(kept)])
    ones = np.ones(int(ends[-1]), dtype=np.int32)
    return sparse.csr_matrix((ones, rows.indices[is_kept], ends), shape=rows.shape)


def jaccard_of(rows: Grams, others: Grams, i: Numbers, j: Numbers) -> NDArray[np.float64]:
    """Compute the Jaccard similarity of pairs of rows: shared elements per element of both."""
    found = [np.empty(0)]
    for k in range(0, len(i), _CHUNK):
        first, second = rows[i[k : k + _CHUNK]], others[j[k : k + _CHUNK]]
        shared = np.asarray(first.multiply(second).sum(axis=1)).ravel()
        found.append(shared / (np.diff(first.indptr) + np.diff(second.indptr) - shared))
    return np.concatenate(found)
