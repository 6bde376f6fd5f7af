"""Fuzz the readers of documents and records with coverage-guided inputs.

This is a manual target; pytest does not collect it. To run it for ten minutes:

    pip install atheris
    python tests/fuzz/fuzz_readers.py -max_total_time=600 corpus/

An input is the content of a file; its first byte chooses the name and the settings. Every input
must be read or refused with a `UserError`; any other exception stops the run.
"""

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["groundup.text", "groundup.finetune"]):
    from groundup.base.errors import UserError
    from groundup.records.conversations import read_conversations
    from groundup.records.labels import read_labels
    from groundup.records.pairs import read_pairs
    from groundup.text.config import FileConfig
    from groundup.text.read import read_documents

NAMES = (
    *("a.txt", "a", "a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.txt.gz", "a.json.zst"),
    *("a.csv.bz2", "a.jsonl.xz"),
)
FORMATS = ("auto", "text", "jsonl", "json", "csv", "tsv", "tsv-quoted", "tsv-pandas", "parquet")
ENCODINGS = ("utf-8", "utf-16", "utf-32", "latin-1", "utf-16-le", "utf-7", "shift_jis")
FOLDER = Path(tempfile.mkdtemp())


def read(data: bytes) -> None:
    """Read one input in every way."""
    if len(data) < 3:
        return
    path = FOLDER / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[3:])
    format, encoding = FORMATS[data[1] % len(FORMATS)], ENCODINGS[data[2] % len(ENCODINGS)]
    settings: dict[str, Any] = {
        "format": format,
        "encoding": encoding,
        "skip_empty": bool(data[0] & 128),
    }
    separator = "ab" if data[1] & 128 else None
    for job in (
        lambda: list(read_documents(path, separator=separator, **settings)),
        lambda: list(read_documents(FOLDER, strict=bool(data[2] & 128), **settings)),
        lambda: read_labels(path, FileConfig(**settings)),
        lambda: read_conversations(path, FileConfig(**settings)),
        lambda: read_pairs(path, FileConfig(**settings)),
    ):
        try:
            job()
        except UserError as error:
            str(error).encode()
    path.unlink()


if __name__ == "__main__":
    logging.disable()
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
