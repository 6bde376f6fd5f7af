"""Split documents into a training set and a validation set by the hash of each document.

A document's side depends on nothing but its text and the seed, so the split is stable when
documents are added or reordered. With few documents that is too coarse: with fewer than ten, or
with fewer than a thousand of which less than half or more than twice the requested fraction would
be held out. Then the last part of each document is held out instead, cut at a paragraph. With a
thousand documents or more, one very long document can still make a side small; `prepare` warns.

Pieces stream through: they wait on disk only until the rule is known, which is after a thousand
documents or at the end of the text.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import orjson

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.text.documents import Document, join_pieces
from groundup.text.pieces import Piece

Side = Literal["train", "validation"]
Rule = Literal["by document", "by last part"]

_FEW_DOCUMENTS = 10
_MANY_DOCUMENTS = 1000
_LONGEST_REACH = 2**15
_IN_MEMORY_BYTES = 2**23


@dataclass(frozen=True, kw_only=True)
class Split:
    """The two sides, and the rule by which they were split."""

    train: list[Document]
    validation: list[Document]
    rule: Rule


def split_documents(
    documents: Iterable[Document], *, validation_frac: float = 0.1, seed: int = 1234
) -> Split:
    """Split documents into training and validation set, in memory.

    Raises:
        UserError: The fraction is not between 0 and 1, or a side would be empty.
    """
    splitter = Splitter(validation_frac=validation_frac, seed=seed)
    sides: dict[Side, list[Piece]] = {"train": [], "validation": []}
    for side, piece in splitter.split(Piece(d.name, d.text) for d in documents):
        sides[side].append(piece)
    assert splitter.rule is not None
    return Split(
        train=list(join_pieces(sides["train"])),
        validation=list(join_pieces(sides["validation"])),
        rule=splitter.rule,
    )


class Splitter:
    """Split a stream of pieces.

    Args:
        validation_frac: The fraction to hold out: of the characters where documents are cut,
            otherwise the probability that a document is held out.
        seed: The random seed, which is combined with the hash of each document.
        rule: The rule to apply; None chooses it as described above.
        spool_in: A folder for pieces that have to wait; None uses the temporary folder.
        may_leave_empty: Whether all pieces may be on one side: they are added to others.

    Raises:
        UserError: The fraction is not between 0 and 1.
    """

    def __init__(
        self,
        *,
        validation_frac: float = 0.1,
        seed: int = 1234,
        rule: Rule | None = None,
        spool_in: Path | None = None,
        may_leave_empty: bool = False,
    ) -> None:
        if not 0 < validation_frac < 1:
            raise UserError(
                f"The validation fraction is {validation_frac}. "
                "A number above 0 and below 1 is expected.",
                settings={"validation_frac": 0.1},
            )
        self.validation_frac, self.seed, self.rule = validation_frac, seed, rule
        self._spool_in, self._may_leave_empty = spool_in, may_leave_empty

    def split(self, pieces: Iterable[Piece]) -> Iterator[tuple[Side, Piece]]:
        """Assign each piece to a side; the pieces of a document stay together and in order.

        Raises:
            UserError: A side would be empty.
        """
        stream = iter(pieces)
        n_characters = {"train": 0, "validation": 0}
        for side, piece in self._split(stream):
            n_characters[side] += len(piece.text)
            yield side, piece
        if not all(n_characters.values()) and not self._may_leave_empty:
            raise UserError(
                f"The text has {sum(n_characters.values()):,} characters, and a validation "
                f"fraction of {self.validation_frac:g} leaves the training or the validation set "
                "empty. A longer text, or another fraction, is expected.",
            )

    def _split(self, stream: Iterator[Piece]) -> Iterator[tuple[Side, Piece]]:
        if self.rule == "by document":
            yield from self._by_document(stream)
            return
        spool_in = None if self._spool_in is None else str(self._spool_in)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=spool_in) as spool:
            lengths: list[int] = []
            held_out: list[bool] = []
            while self.rule is not None or len(lengths) < _MANY_DOCUMENTS:
                piece = next(stream, None)
                if piece is None:
                    break
                row = [piece.name, piece.text, piece.is_first, piece.is_last]
                spool.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                if piece.is_first:
                    lengths.append(0)
                    held_out.append(self._holds_out(piece))
                lengths[-1] += len(piece.text)
            spool.seek(0)
            waiting = (Piece(*orjson.loads(line)) for line in spool)
            self.rule = self.rule or self._choose(lengths, held_out)
            if self.rule == "by document":
                yield from self._by_document(chain(waiting, stream))
            else:
                yield from self._by_last_part(waiting, lengths)

    def _choose(self, lengths: list[int], held_out: list[bool]) -> Rule:
        if len(lengths) >= _MANY_DOCUMENTS:
            return "by document"
        share = sum(n for n, out in zip(lengths, held_out, strict=True) if out)
        frac = share / max(1, sum(lengths))
        even = self.validation_frac / 2 <= frac <= self.validation_frac * 2
        return "by document" if even and len(lengths) >= _FEW_DOCUMENTS else "by last part"

    def _by_document(self, pieces: Iterable[Piece]) -> Iterator[tuple[Side, Piece]]:
        side: Side = "train"
        for piece in pieces:
            if piece.is_first:
                side = "validation" if self._holds_out(piece) else "train"
            yield side, piece

    def _holds_out(self, piece: Piece) -> bool:
        """Decide by the hash of a document's first piece: all of its text, unless it is huge."""
        text_sha256 = sha256_bytes(piece.text.encode("utf-8"))
        digest = hashlib.sha256(f"{self.seed}:{text_sha256}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < self.validation_frac

    def _by_last_part(
        self, pieces: Iterable[Piece], lengths: list[int]
    ) -> Iterator[tuple[Side, Piece]]:
        document = -1
        before = goal = reach = 0
        held = ""
        for piece in pieces:
            if piece.is_first:
                document, before, held = document + 1, 0, ""
                goal = round(lengths[document] * (1 - self.validation_frac))
                share = round(lengths[document] * self.validation_frac / 2)
                reach = min(_LONGEST_REACH, max(1, share))
            end = before + len(held) + len(piece.text)
            if not held and end <= goal - reach:
                yield "train", replace(piece, name=f"{piece.name} (first part)")
                before = end
            elif before > goal:
                yield "validation", replace(piece, name=f"{piece.name} (last part)")
            else:
                held += piece.text
                if end < goal + reach and not piece.is_last:
                    continue
                cut = _nearby_cut(held, goal - before, reach)
                head, tail = held[:cut], held[cut:]
                if head or before:
                    yield "train", Piece(f"{piece.name} (first part)", head, before == 0, True)
                if tail:
                    name = f"{piece.name} (last part)"
                    yield "validation", Piece(name, tail, True, piece.is_last)
                before, held = goal + 1, ""


def _nearby_cut(text: str, goal: int, reach: int) -> int:
    """Return the end of the paragraph, line or word that lies nearest to the goal, within reach."""
    for mark in ("\n\n", "\n", " "):
        before = text.rfind(mark, max(0, goal - reach), goal)
        after = text.find(mark, max(0, goal - len(mark)), goal + reach)
        cuts = [place + len(mark) for place in (before, after) if place >= 0]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - goal))
    return goal
