"""The table of a vocabulary: the bytes of each token, by id."""

from collections.abc import Mapping, Sequence

from groundup.base.errors import UserError

Pair = tuple[int, int]

MOST_HOLES = 1024
"""A table may have as many ids without a token as with one, and this many more."""


def derive_table(merges: Sequence[Pair]) -> list[bytes]:
    """List the bytes of the 256 bytes and of what each merge makes."""
    table = [bytes([value]) for value in range(256)]
    for rank, (left, right) in enumerate(merges):
        if not (0 <= left < len(table) and 0 <= right < len(table)):
            raise UserError(
                f"Merge {rank} is ({left}, {right}). Two ids below {len(table)} are expected.",
            )
        table.append(table[left] + table[right])
    return table


def as_table(vocab: Mapping[int, bytes]) -> list[bytes]:
    """List the bytes of each id; an id without a token has no bytes."""
    ids = sorted(vocab)
    if ids and not 0 <= ids[0] <= ids[-1] < 2 * len(ids) + MOST_HOLES:
        raise UserError(
            f"The vocabulary has {len(ids)} tokens with ids from {ids[0]} to {ids[-1]}. "
            "Ids from 0 on with few holes are expected.",
        )
    table = [b""] * (ids[-1] + 1 if ids else 0)
    seen: dict[bytes, int] = {}
    for index, token in vocab.items():
        if seen.setdefault(token, index) != index:
            raise UserError(
                f"The ids {seen[token]} and {index} have the same token {token!r}. "
                "One id per token is expected.",
            )
        table[index] = token
    return table
