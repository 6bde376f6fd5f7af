"""A corpus whose two sides a test decides itself."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from groundup.text.corpus import CorpusWriter
from groundup.text.documents import Document
from groundup.text.pieces import Piece
from groundup.text.split import Side


def write_corpus(data: Path, train: Iterable[Document], validation: Iterable[Document]) -> None:
    sides: dict[Side, Iterable[Document]] = {"train": train, "validation": validation}
    (data / "corpus").mkdir(parents=True)
    with closing(CorpusWriter(data / "corpus")) as writer:
        for side, documents in sides.items():
            for document in documents:
                writer.write(side, Piece(document.name, document.text))
        writer.finish()
