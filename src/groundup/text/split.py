"""Which documents train and which validate: decided by each document's own hash.

A document's side depends on nothing but its text and the seed, so the split is stable when
documents are added or reordered. A few documents of unlike length may make that too coarse: fewer
than ten, or fewer than a thousand that would hold out less than half or more than twice the share
asked for. Then each text's last part is held out, cut at the nearest paragraph.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from groundup.base.errors import UserError
from groundup.text.documents import Document

_FEW_DOCUMENTS = 10
_MANY_DOCUMENTS = 1000


@dataclass(frozen=True, kw_only=True)
class Split:
    """The two sides and how they were parted."""

    train: list[Document]
    validation: list[Document]
    rule: Literal["by document", "by last part"]


def split_documents(
    documents: Iterable[Document], *, validation_frac: float = 0.1, seed: int = 1234
) -> Split:
    """Part documents into train and validation.

    Raises:
        UserError: The share is not between 0 and 1, or a side would be empty.
    """
    if not 0 < validation_frac < 1:
        raise UserError(
            f"validation_frac is {validation_frac}",
            need="a share between 0 and 1",
            type_this="--validation-frac 0.1",
        )
    everything = list(documents)
    split = _by_document(everything, validation_frac, seed)
    n_characters = sum(len(document.text) for document in everything)
    held_out_frac = sum(len(document.text) for document in split.validation) / max(1, n_characters)
    uneven = not validation_frac / 2 <= held_out_frac <= validation_frac * 2
    if len(everything) < _FEW_DOCUMENTS or (uneven and len(everything) < _MANY_DOCUMENTS):
        split = _by_last_part(everything, validation_frac)
    if not split.train or not split.validation:
        raise UserError(
            f"{n_characters:,} characters are too few to hold any out",
            need="a longer text",
            where=", ".join(document.name for document in everything[:3]),
        )
    return split


def _by_document(documents: list[Document], validation_frac: float, seed: int) -> Split:
    held_out = [_draw(document, seed) < validation_frac for document in documents]
    return Split(
        train=[d for d, out in zip(documents, held_out, strict=True) if not out],
        validation=[d for d, out in zip(documents, held_out, strict=True) if out],
        rule="by document",
    )


def _by_last_part(documents: list[Document], validation_frac: float) -> Split:
    halves = [_cut(document, validation_frac) for document in documents]
    return Split(
        train=[head for head, _ in halves if head.text],
        validation=[tail for _, tail in halves if tail.text],
        rule="by last part",
    )


def _draw(document: Document, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{document.sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cut(document: Document, validation_frac: float) -> tuple[Document, Document]:
    text = document.text
    goal = round(len(text) * (1 - validation_frac))
    reach = max(1, round(len(text) * validation_frac / 2))
    cut = goal
    for mark in ("\n\n", "\n", " "):
        after = text.rfind(mark, goal - reach, goal + reach)
        if after >= 0:
            cut = after + len(mark)
            break
    return (
        Document(f"{document.name} (first part)", text[:cut]),
        Document(f"{document.name} (last part)", text[cut:]),
    )
