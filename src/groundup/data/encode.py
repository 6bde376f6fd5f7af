"""`encode`: from a corpus to token stores. DATA/corpus becomes DATA/train and DATA/validation.

The corpus file is read in units of about 4 MB. Each unit is encoded separately into a part: ids,
document starts, and finally a small file with their checksums. After an interruption the finished
parts are kept and only the others are encoded; a part does not depend on the worker that made it.
At the end the parts are joined, in order, into the store, which gets its name as the last step.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.base.malloc import MemoryReturner
from groundup.base.undo import undo_interrupted
from groundup.data.config import EncodeConfig
from groundup.data.parts import Part, encode_part, is_done, read_part
from groundup.data.ray_engine import encode_on_ray
from groundup.data.store import TokenStore
from groundup.text.corpus import (
    SIDES,
    SideSize,
    read_sizes,
    reference,
)
from groundup.text.split import Side
from groundup.text.stores import check_stores, is_encoded_with, store_manifest
from groundup.text.taken import changing
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.replacing import check_tokenizer
from groundup.tokenizer.special_names import end_of_text_id, end_of_text_name
from groundup.tokenizer.words import WordTokenizer

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called now and then with (bytes encoded, total bytes)."""


@dataclass(frozen=True, kw_only=True)
class EncodedSide:
    """The size of one token store."""

    n_documents: int
    n_tokens: int
    bytes_per_token: float


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """The token stores of a data folder."""

    data: Path
    vocab_size: int
    train: EncodedSide
    validation: EncodedSide

    @property
    def n_tokens(self) -> dict[str, int]:
        """The number of tokens of each side."""
        return {"train": self.train.n_tokens, "validation": self.validation.n_tokens}


@takes_settings(EncodeConfig, "data")
def encode(config: EncodeConfig, on_progress: Progress | None = None) -> EncodeResult:
    """Encode DATA/corpus with a tokenizer into the token stores DATA/train and DATA/validation.

    Another tokenizer, or stores that a run was trained on, are replaced only with `overwrite`. An
    error leaves the data folder as it was.

    Raises:
        UserError: There is no corpus or no tokenizer, or the stores cannot be written.
    """
    undo_interrupted(config.data)
    sizes = read_sizes(config.data / "corpus")
    own_folder = config.data / "tokenizer"
    tokenizer = load_tokenizer(config.tokenizer or own_folder)
    is_new = config.tokenizer is not None and check_tokenizer(
        config.data, tokenizer, config.tokenizer, overwrite=config.overwrite
    )
    if end_of_text_name(tokenizer) is None:
        _log.warning(
            "The tokenizer names no token that ends a text, so the documents follow one another "
            "without one, and a model trained on them never ends a text by itself. Name it as "
            "eos_token in a tokenizer_config.json beside the tokenizer.json."
        )
    with changing(config.data, always=is_new, names=SIDES), parts_kept_if_useful(config.data):
        if is_new:
            tokenizer.save(own_folder)
        stores = encode_corpus(
            config.data,
            tokenizer,
            engine=config.engine,
            overwrite=config.overwrite,
            on_progress=on_progress,
        )
    sides = {
        side: EncodedSide(
            n_documents=store.n_documents,
            n_tokens=store.n_tokens,
            bytes_per_token=sizes[side].n_bytes / max(1, store.n_tokens),
        )
        for side, store in stores.items()
    }
    return EncodeResult(
        data=config.data,
        vocab_size=tokenizer.vocab_size,
        train=sides["train"],
        validation=sides["validation"],
    )


def encode_corpus(
    data: Path,
    tokenizer: Tokenizer,
    *,
    engine: Literal["local", "ray"] = "local",
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> dict[Side, TokenStore]:
    """Encode both sides of DATA/corpus; names of special tokens in it are ordinary text.

    A store that was made from the beginning of this corpus, with this tokenizer, is appended to.

    Args:
        data: The data folder.
        tokenizer: The tokenizer.
        engine: "local" for this process, "ray" for all cores of a Ray cluster of one machine or
            of several that share the folder; the stores are bit-identical.
        overwrite: Whether to replace stores of another text, and stores that a run was trained on.
        on_progress: Called with the number of bytes done and in total.

    Raises:
        UserError: There is no corpus, or the stores cannot be written.
    """
    sizes = read_sizes(data / "corpus")
    end_of_text = end_of_text_id(tokenizer)
    known = check_stores(data, sizes, tokenizer.fingerprint, end_of_text, overwrite=overwrite)
    already = {
        side: _bytes_already_stored(data, side, sizes[side], known[side], tokenizer)
        for side in SIDES
    }
    total = sum(sizes[side].n_file_bytes - already[side] for side in SIDES)
    done = 0

    def report(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if on_progress is not None:
            on_progress(done, total)

    # All parts come before the first store: an interruption loses none of them.
    made = {
        side: _make_parts(data, side, sizes[side], already[side], tokenizer, engine, report)
        for side in SIDES
        if already[side] < sizes[side].n_file_bytes
    }
    stores: dict[Side, TokenStore] = {}
    for side in SIDES:
        place, sources = data / side, [reference(side, sizes[side])]
        parts = (read_part(part, tokenizer) for part in made.get(side, []))
        if side not in made:
            stores[side] = TokenStore.open(place)
        elif already[side]:
            stores[side] = TokenStore.open(place).append_parts(parts, sources=sources)
        else:
            stores[side] = TokenStore.build_from_parts(
                place,
                parts,
                vocab_size=tokenizer.vocab_size,
                tokenizer_fingerprint=tokenizer.fingerprint,
                end_of_text=end_of_text,
                sources=sources,
            )
    for side in SIDES:
        remove_parts(data, side)  # also those of a run killed after its store was complete
    return stores


def _make_parts(
    data: Path,
    side: Side,
    size: SideSize,
    already: int,
    tokenizer: Tokenizer,
    engine: Literal["local", "ray"],
    report: Callable[[int], None],
) -> list[Part]:
    """Encode the parts of one side that an interrupted call has not finished; return all."""
    folder = _parts_folder(data, side, size.sha256, tokenizer, already)
    parts = _plan(data, side, size, already, _needs_complete_documents(tokenizer), folder)
    todo = []
    for part in parts:
        if is_done(part):
            report(part.stop - part.start)
        else:
            todo.append(part)
    if engine == "ray":
        encode_on_ray(todo, tokenizer, folder, report)
    else:
        _encode_locally(todo, tokenizer, report)
    return parts


def _encode_locally(parts: list[Part], tokenizer: Tokenizer, report: Callable[[int], None]) -> None:
    """Encode one part after another: the encoder holds the GIL, so threads would only wait."""
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
    join: bool,
    folder: Path,
) -> list[Part]:
    """List the parts from byte `already` on; with `join`, none begins inside a document."""
    cuts = [start for start, is_first in size.units if start > already and (is_first or not join)]
    edges = [already, *cuts, size.n_file_bytes]
    return [
        Part(data=data, side=side, start=start, stop=stop, join=join, goal=folder / f"{number:06}")
        for number, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    ]


def _needs_complete_documents(tokenizer: Tokenizer) -> bool:
    """Whether the cuts between pieces may change ids; they do not for the patterns we know."""
    if isinstance(tokenizer, ImportedTokenizer):
        return not tokenizer.cuts_at_pieces
    if isinstance(tokenizer, WordTokenizer):
        return True  # its words have other edges
    return isinstance(tokenizer, BPETokenizer) and tokenizer.pattern not in PATTERNS.values()


def _parts_folder(
    data: Path, side: Side, corpus_sha256: str, tokenizer: Tokenizer, already: int
) -> Path:
    """Return the folder of the parts, named by what decides them; remove all other parts."""
    decides = [corpus_sha256, tokenizer.fingerprint, already, end_of_text_id(tokenizer)]
    key = sha256_bytes(" ".join(map(str, decides)).encode())[:16]
    folder = data / f".{side}-parts-{key}"
    remove_parts(data, side, keep=folder)
    return folder


@contextmanager
def parts_kept_if_useful(data: Path, *, keep: bool = True) -> Iterator[None]:
    """Remove the parts if an error in the block leaves the stores as they were before.

    The next call continues with them if there were no stores, or if it was Ctrl-C.

    Args:
        data: The data folder.
        keep: False: they are removed after any error.
    """
    had_stores = any((data / side).is_dir() for side in SIDES)
    try:
        yield
    except BaseException as error:
        if not keep or (had_stores and isinstance(error, Exception)):
            for side in SIDES:
                remove_parts(data, side)
        raise


def remove_parts(data: Path, side: Side, keep: Path | None = None) -> None:
    """Remove the parts of one side, except one folder."""
    for folder in data.glob(f".{side}-parts-*"):
        if folder != keep:
            shutil.rmtree(folder)


def _bytes_already_stored(
    data: Path, side: Side, size: SideSize, n_bytes: int, tokenizer: Tokenizer
) -> int:
    """Return how much of the corpus file an intact store of this tokenizer contains already."""
    folder, manifest = data / side, store_manifest(data / side)
    fingerprint, end_of_text = tokenizer.fingerprint, end_of_text_id(tokenizer)
    if manifest is None or not is_encoded_with(manifest, fingerprint, end_of_text):
        return 0
    if n_bytes == size.n_file_bytes and manifest["n_documents"] != size.n_documents:
        return 0
    if n_bytes:
        try:
            TokenStore.open(folder).verify()
        except UserError as damage:
            _log.warning("the token store is written again: %s", damage.located)
            return 0
    return n_bytes
