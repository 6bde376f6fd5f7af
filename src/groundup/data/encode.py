"""From the prepared corpus to token stores: DATA/corpus becomes DATA/train and DATA/validation.

The corpus file is read in units of about 4 MB. Each unit is encoded by itself into a part: ids, the
document starts, and last of all a small file with their checksums. An interrupted run keeps its
finished parts and does only the rest; which worker made a part leaves no trace in it. At the end
the parts are joined, in order, into the store, which takes its name as the last act.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import (
    read_json,
    sha256_bytes,
    sha256_file,
)
from groundup.base.malloc import MemoryReturner
from groundup.data.manifest import is_store
from groundup.data.parts import Part, encode_part, is_done, read_part
from groundup.data.ray_engine import encode_on_ray
from groundup.data.store import TokenStore
from groundup.text.corpus import SIDES, SideSize, corpus_file, read_sizes
from groundup.text.split import Side
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END_OF_TEXT

log = logging.getLogger(__name__)

Engine = Literal["local", "ray"]
Progress = Callable[[int, int], None]
"""Told (bytes encoded, bytes in all) now and then."""


def encode_corpus(
    data: Path,
    tokenizer: Tokenizer,
    *,
    engine: Engine = "local",
    on_progress: Progress | None = None,
) -> dict[Side, TokenStore]:
    """Encode both sides of DATA/corpus; text is always ordinary text, never a special token.

    A store that was made from the beginning of this corpus, with this tokenizer, is appended to.

    Args:
        data: The data folder.
        tokenizer: What makes the ids.
        engine: "local" for this process, "ray" for all cores of a Ray cluster, of one machine or
            of many that share the folder; the stores are the same to the bit.
        on_progress: Told how far it is.

    Raises:
        UserError: There is no corpus, or the stores cannot be written.
    """
    sizes = read_sizes(data / "corpus")
    already = {side: _bytes_already_stored(data, side, sizes[side], tokenizer) for side in SIDES}
    total = sum(sizes[side].n_file_bytes - already[side] for side in SIDES)
    done = 0

    def report(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if on_progress is not None:
            on_progress(done, total)

    stores: dict[Side, TokenStore] = {}
    for side in SIDES:
        place, size = data / side, sizes[side]
        if already[side] == size.n_file_bytes:
            stores[side] = TokenStore.open(place)
            _remove_parts(data, side)  # of a run killed after its store was whole
            continue
        folder = _parts_folder(data, side, size.sha256, tokenizer, already[side])
        whole = _needs_whole_documents(tokenizer)
        parts = _plan(data, side, size, already[side], whole, folder)
        todo = []
        for part in parts:
            if is_done(part):
                report(part.stop - part.start)
            else:
                todo.append(part)
        if engine == "ray":
            encode_on_ray(todo, tokenizer, folder, report)
        else:
            _encode_here(todo, tokenizer, report)
        made = (read_part(part, tokenizer) for part in parts)
        sources = [f"corpus/{side}.jsonl bytes:{size.n_file_bytes} sha256:{size.sha256}"]
        if already[side]:
            stores[side] = TokenStore.open(place).append_parts(made, sources=sources)
        else:
            stores[side] = TokenStore.build_from_parts(
                place,
                made,
                vocab_size=tokenizer.vocab_size,
                tokenizer_fingerprint=tokenizer.fingerprint,
                end_of_text=tokenizer.special_tokens.get(END_OF_TEXT),
                sources=sources,
            )
        shutil.rmtree(folder)
    return stores


def remove_outdated(data: Path) -> list[Path]:
    """Remove the stores whose text is no longer in the corpus beside them; give their folders.

    Only token stores are removed, and only those that the present corpus does not begin with.
    """
    outdated = []
    for side, size in read_sizes(data / "corpus").items():
        folder = data / side
        if is_store(folder) and _bytes_already_stored(data, side, size, None) == 0:
            shutil.rmtree(folder)
            outdated.append(folder)
    return outdated


def _encode_here(parts: list[Part], tokenizer: Tokenizer, report: Callable[[int], None]) -> None:
    """Encode part after part: the engine holds Python's lock, so that threads would only wait."""
    to_ids = fast_encoder(tokenizer)
    memory = MemoryReturner()
    for part in parts:
        encode_part(part, to_ids, tokenizer)
        memory.passed(part.stop - part.start)
        report(part.stop - part.start)


def _plan(
    data: Path,
    side: Side,
    size: SideSize,
    already: int,
    whole: bool,
    folder: Path,
) -> list[Part]:
    """Lay out the parts from byte `already` on; with `whole`, none begins inside a document."""
    cuts = [start for start, is_first in size.units if start > already and (is_first or not whole)]
    edges = [already, *cuts, size.n_file_bytes]
    return [
        Part(data=data, side=side, start=start, stop=stop, join=whole, goal=folder / f"{number:06}")
        for number, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    ]


def _needs_whole_documents(tokenizer: Tokenizer) -> bool:
    """Pieces are cut where these tokenizers' ids do not change; of others nothing is known."""
    return isinstance(tokenizer, BPETokenizer) and tokenizer.pattern not in PATTERNS.values()


def _parts_folder(
    data: Path, side: Side, corpus_sha256: str, tokenizer: Tokenizer, already: int
) -> Path:
    """Name the folder of the parts by what decides them; remove those of anything else."""
    key = sha256_bytes(f"{corpus_sha256} {tokenizer.fingerprint} {already}".encode())[:16]
    folder = data / f".{side}-parts-{key}"
    _remove_parts(data, side, keep=folder)
    return folder


def _remove_parts(data: Path, side: Side, keep: Path | None = None) -> None:
    for folder in data.glob(f".{side}-parts-*"):
        if folder != keep:
            shutil.rmtree(folder)


def _bytes_already_stored(
    data: Path, side: Side, size: SideSize, tokenizer: Tokenizer | None
) -> int:
    """How much of the corpus file a store holds already: all of its text, or 0 if that differs."""
    folder = data / side
    if not is_store(folder):
        return 0
    manifest = read_json(folder / "manifest.json")
    if tokenizer is not None and manifest.get("tokenizer_fingerprint") != tokenizer.fingerprint:
        return 0
    try:
        _, n_bytes, checksum = manifest["sources"][0].split(" ")
        n_bytes = int(n_bytes.removeprefix("bytes:"))
        if tokenizer is not None:
            TokenStore.open(folder).verify()  # a damaged one is made anew
    except (UserError, ValueError, KeyError, IndexError):
        return 0
    if n_bytes > size.n_file_bytes:
        return 0
    found = (
        size.sha256
        if n_bytes == size.n_file_bytes
        else sha256_file(corpus_file(data, side), n_bytes)
    )
    return n_bytes if checksum == f"sha256:{found}" else 0
