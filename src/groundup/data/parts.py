"""Encode one unit: some lines of the corpus become ids, document starts and checksums.

A part is three files. The last one written, `.json`, contains the checksums of the other two, so
that an interrupted run can determine which parts are complete.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import atomic_path, read_json, sha256_file, write_json
from groundup.data.store import token_dtype
from groundup.text.corpus import read_corpus_pieces
from groundup.text.documents import join_pieces
from groundup.text.split import Side
from groundup.tokenizer.fast import ToIds
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special_names import end_of_text_id


@dataclass(frozen=True, kw_only=True)
class Part:
    """One unit of work: some lines of a corpus file, and where to write their ids."""

    data: Path
    side: Side
    start: int
    stop: int
    join: bool
    """Whether the pieces of a document must be joined before they are encoded."""
    goal: Path
    """Path without a suffix; `.bin`, `.npy` and finally `.json` are written."""


def encode_part(part: Part, to_ids: ToIds, tokenizer: Tokenizer) -> None:
    """Encode one unit and write its part; the `.json` file comes last and marks it as complete."""
    end_of_text = end_of_text_id(tokenizer)
    dtype = token_dtype(tokenizer.vocab_size)
    closing = np.array([] if end_of_text is None else [end_of_text], dtype=dtype)
    starts: list[int] = []
    n_tokens = 0
    digest = hashlib.sha256()
    with atomic_path(part.goal.with_suffix(".bin")) as temporary, open(temporary, "wb") as file:
        for name, text, is_first, is_last in _texts(part):
            if is_first:
                starts.append(n_tokens)
            try:
                ids = to_ids(text).astype(dtype, copy=False)
            except UserError as error:
                raise UserError(error.message, where=name, command=error.command) from error
            for some in (ids, closing) if is_last else (ids,):
                file.write(some.data)
                digest.update(some.data)
                n_tokens += len(some)
    with atomic_path(part.goal.with_suffix(".npy")) as temporary, open(temporary, "wb") as file:
        np.save(file, np.array(starts, dtype="<i8"))
    checksums = {
        "bin_sha256": digest.hexdigest(),
        "npy_sha256": sha256_file(part.goal.with_suffix(".npy")),
        "start": part.start,
        "stop": part.stop,
    }
    write_json(part.goal.with_suffix(".json"), checksums)


def is_done(part: Part) -> bool:
    """Whether a part is complete: its last file exists and its checksums are correct."""
    last = part.goal.with_suffix(".json")
    if not last.is_file():
        return False
    written = read_json(last)
    return (written["start"], written["stop"]) == (part.start, part.stop) and all(
        part.goal.with_suffix(suffix).is_file()
        and sha256_file(part.goal.with_suffix(suffix)) == written[f"{suffix[1:]}_sha256"]
        for suffix in (".bin", ".npy")
    )


def read_part(part: Part, tokenizer: Tokenizer) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Read the ids and the document starts of an encoded part."""
    ids = np.fromfile(part.goal.with_suffix(".bin"), dtype=token_dtype(tokenizer.vocab_size))
    return ids, np.load(part.goal.with_suffix(".npy"))


def _texts(part: Part) -> Iterator[tuple[str, str, bool, bool]]:
    """Read (name of the document, text, whether it begins a document, whether it ends one)."""
    pieces = read_corpus_pieces(part.data, part.side, part.start, part.stop)
    if not part.join:
        for piece in pieces:
            yield piece.name, piece.text, piece.is_first, piece.is_last
        return
    for document in join_pieces(pieces):
        yield document.name, document.text, True, True
