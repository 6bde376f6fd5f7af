"""The prepared documents on disk: one JSON line each, train and validation apart."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.text.documents import Document

Side = Literal["train", "validation"]


def write_corpus(data: Path, train: Iterable[Document], validation: Iterable[Document]) -> None:
    """Write DATA/corpus/train.jsonl and validation.jsonl, each whole or not at all."""
    for side, documents in (("train", train), ("validation", validation)):
        with (
            atomic_path(corpus_file(data, side)) as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            for document in documents:
                record = {"name": document.name, "text": document.text}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_corpus(data: Path, side: str) -> Iterator[Document]:
    """Read the documents of one side back.

    Raises:
        UserError: There is no prepared corpus.
    """
    path = corpus_file(data, side)
    if not path.is_file():
        raise UserError(
            "there is no prepared text here",
            need="a folder made by `groundup prepare`",
            where=data,
            type_this=f"groundup prepare my.txt --out {data}",
        )
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            yield Document(record["name"], record["text"])


def corpus_file(data: Path, side: str) -> Path:
    """Name the file of one side."""
    return data / "corpus" / f"{side}.jsonl"
