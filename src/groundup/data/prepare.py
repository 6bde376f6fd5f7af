"""The job `prepare`: from sources to a data folder, documents parted and audited.

Text streams through: memory does not follow the corpus. Run again after an interruption, it keeps
what was finished: the corpus if the sources are what they were, then every part that was encoded.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, in_place, read_json, remove_left_over, sha256_bytes
from groundup.base.malloc import MemoryReturner
from groundup.data.encode import Engine, encode_corpus, remove_outdated
from groundup.data.manifest import is_store
from groundup.text.audit import Audit, Auditor
from groundup.text.builtin import BUILTIN_NAME, python_reference
from groundup.text.catalog import CATALOG, fetch
from groundup.text.corpus import SIDES, CorpusWriter, verify_corpus
from groundup.text.documents import HUGGING_FACE, read_pieces
from groundup.text.pieces import Piece
from groundup.text.sources import Source, find_sources
from groundup.text.split import Splitter
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer

_log = logging.getLogger(__name__)

_N_LONGEST = 5
_TOLD_EVERY_BYTES = 2**22

Progress = Callable[[str, int, int | None], None]
"""Told (stage, bytes done, bytes in all or None) now and then."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to read and where to put it."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, URLs, hf:NAME, - for stdin, named texts; without: python-reference."""
    out: Path = Path("data")
    """The data folder to make."""
    append: bool = False
    """Add to what the folder holds: ids and split of the older documents stay."""
    validation_frac: float = 0.1
    """The share held out for validation."""
    seed: int = 1
    """What decides, with each document's hash, which side it is on."""
    encoding: str = "utf-8"
    """The encoding of the files."""
    separator: str | None = None
    """A string that ends a document inside a file, such as <|endoftext|>."""
    text_field: str = "text"
    """Which field or column of a record (jsonl, csv, parquet) holds the text."""
    tokenizer: str | None = None
    """A tokenizer folder to encode with at once; without it, train-tokenizer comes next."""
    engine: Engine = "local"
    """What encodes: this process, or all cores of a Ray cluster that shares the folder."""
    audit: bool = True
    """Look for duplicates and weigh languages."""


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """The size of one side."""

    n_documents: int
    n_characters: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What was prepared."""

    data: Path
    sources: list[str]
    split_rule: str
    train: SideReport
    validation: SideReport
    longest: list[tuple[str, int]]
    audit: Audit | None
    n_skipped_sources: int
    """Files that the folder held already, unchanged."""
    n_tokens: dict[str, int] | None
    """Tokens of each side, if they were encoded."""


@dataclass(frozen=True)
class _Place:
    """Something to read."""

    what: str | Source
    stamp: list[Any]
    """What changes when the text does; holds None where that cannot be known."""
    n_bytes: int | None


def prepare(config: PrepareConfig, on_progress: Progress | None = None) -> PrepareReport:
    """Read, clean, part and audit documents; write DATA/corpus, and the stores if asked.

    Raises:
        UserError: A source cannot be read, or the text is too short.
    """
    words = list(config.sources) or [BUILTIN_NAME]
    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    corpus = config.out / "corpus"
    for name in ("corpus", "tokenizer", *SIDES):
        remove_left_over(config.out / name)
    held = read_json(corpus / "manifest.json") if (corpus / "manifest.json").is_file() else None
    if config.append and held is None:
        raise UserError(
            "there is nothing to append to",
            need="a data folder made by `groundup prepare`",
            where=config.out,
            type_this="the same command without --append",
        )
    if config.append:
        tokenizer = tokenizer or _tokenizer_in_use(config.out)
    places = _places(words)
    todo = [place for place in places if not config.append or not _is_in(held, place)]
    keep = held is not None and not config.append and _is_same(held, places, _options(config))
    if keep and _is_sound(corpus):
        _log.info("the corpus in %s is of these very sources: kept", corpus)
        todo = []
    elif todo:
        try:
            _write_corpus(config, todo, held if config.append else None, on_progress)
        except BaseException:
            with suppress(OSError):
                config.out.rmdir()  # only if it is empty: nothing came of it
            raise
    # A store of another text would open, and be wrong.
    for folder in remove_outdated(config.out):
        _log.warning("removed %s: its tokens were made from an older text", folder)
    n_tokens = None
    if tokenizer is not None:
        tokenizer.save(config.out / "tokenizer")

        def report(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress("encode", done, total)

        stores = encode_corpus(config.out, tokenizer, engine=config.engine, on_progress=report)
        n_tokens = {str(side): store.n_tokens for side, store in stores.items()}
    told = read_json(corpus / "manifest.json")
    return _report(config.out, words, told, len(places) - len(todo), n_tokens)


def _write_corpus(
    config: PrepareConfig,
    places: list[_Place],
    held: dict[str, Any] | None,
    on_progress: Progress | None,
) -> None:
    """Stream the sources into the corpus, after what is there if `held` tells of it."""
    auditor = Auditor() if config.audit else None
    longest = [] if held is None else [(name, size) for name, size in held["longest"]]
    size = 0
    options = _options(config) if held is None else held["options"]
    splitter = Splitter(
        validation_frac=options["validation_frac"],
        seed=options["seed"],
        rule=None if held is None else held["rule"],
        spool_in=config.out,
    )
    reading = _Meter("read", on_progress, _n_bytes(places))
    writing = _Meter("split", on_progress, None)
    corpus = config.out / "corpus"
    with (
        atomic_folder(corpus)
        if held is None
        else in_place(corpus, "the corpus is as it was") as folder,
        closing(CorpusWriter(folder, append=held is not None)) as writer,
    ):
        for side, piece in splitter.split(reading.watch(_pieces(places, config))):
            writer.write(side, piece)
            if reading.is_over:  # a few huge documents wait on disk until all are read
                writing.n_bytes_in_all = reading.n_bytes
                writing.add(piece)
            if auditor is not None:
                auditor.add(side, piece)
            size = len(piece.text) + (0 if piece.is_first else size)
            if piece.is_last and (len(longest) < _N_LONGEST or size > longest[-1][1]):
                longest = sorted([*longest, (piece.name, size)], key=lambda row: -row[1])
                longest = longest[:_N_LONGEST]
        writer.finish(
            stamps=(held["stamps"] if held is not None else []) + [p.stamp for p in places],
            options=options,
            rule=splitter.rule,
            longest=longest,
            audit=None if auditor is None else asdict(auditor.finish()),
        )


class _Meter:
    """Counts the bytes of pieces, and tells now and then."""

    def __init__(
        self, stage: str, on_progress: Progress | None, n_bytes_in_all: int | None
    ) -> None:
        self.n_bytes, self.n_bytes_in_all, self.is_over = 0, n_bytes_in_all, False
        self._stage, self._on_progress, self._told_at = stage, on_progress, 0
        self._memory = MemoryReturner()

    def add(self, piece: Piece) -> None:
        n_bytes = len(piece.text.encode("utf-8"))
        self.n_bytes += n_bytes
        self._memory.passed(n_bytes)
        if self._on_progress is not None and self.n_bytes - self._told_at >= _TOLD_EVERY_BYTES:
            self._told_at = self.n_bytes
            self._on_progress(self._stage, self.n_bytes, self.n_bytes_in_all)

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self.add(piece)
            yield piece
        self.is_over = True


def _places(words: list[str]) -> list[_Place]:
    """Turn what was typed into things to read."""
    places = []
    for word in words:
        if word == BUILTIN_NAME:
            text = "".join(document.text for document in python_reference()).encode("utf-8")
            places.append(_Place(word, [word, sha256_bytes(text)], len(text)))
        elif word.startswith(HUGGING_FACE):
            places.append(_Place(word, [word, None], None))
        elif word in CATALOG and not Path(word).exists():
            text_file, about = fetch(CATALOG[word]), CATALOG[word]
            places.append(_Place(str(text_file), [word, about.sha256], about.n_bytes))
        else:
            sources = find_sources(word)
            places += [_Place(source, source.stamp, source.n_bytes) for source in sources]
    return places


def _pieces(places: list[_Place], config: PrepareConfig) -> Iterator[Piece]:
    for is_builtin, some in groupby(places, key=lambda place: place.what == BUILTIN_NAME):
        if is_builtin:
            yield from (Piece(d.name, d.text) for d in python_reference())
            continue
        yield from read_pieces(
            [place.what for place in some],
            encoding=config.encoding,
            separator=config.separator,
            text_field=config.text_field,
        )


def _n_bytes(places: list[_Place]) -> int | None:
    """Sum the sizes of the files, where all are known."""
    sizes = [place.n_bytes for place in places]
    return None if None in sizes else sum(size for size in sizes if size)


def _options(config: PrepareConfig) -> dict[str, Any]:
    """What decides the corpus, besides the sources."""
    return {
        "validation_frac": config.validation_frac,
        "seed": config.seed,
        "encoding": config.encoding,
        "separator": config.separator,
        "text_field": config.text_field,
        "audit": config.audit,
    }


def _is_same(held: dict[str, Any], places: list[_Place], options: dict[str, Any]) -> bool:
    """Tell whether a corpus was made from these very sources in this very way."""
    stamps = [place.stamp for place in places]
    known = all(None not in stamp for stamp in stamps)
    return known and held.get("stamps") == stamps and held.get("options") == options


def _is_sound(corpus: Path) -> bool:
    try:
        verify_corpus(corpus)
    except UserError as damage:
        _log.warning("made anew: %s", damage)
        return False
    return True


def _is_in(held: dict[str, Any] | None, place: _Place) -> bool:
    """Tell whether a corpus holds this source already."""
    return held is not None and None not in place.stamp and place.stamp in held.get("stamps", [])


def _tokenizer_in_use(data: Path) -> Tokenizer | None:
    """Give the tokenizer of the folder's stores, if it has stores: they grow with the corpus."""
    return load_tokenizer(data / "tokenizer") if any(is_store(data / s) for s in SIDES) else None


def _report(
    data: Path,
    words: list[str],
    told: dict[str, Any],
    n_skipped: int,
    n_tokens: dict[str, int] | None,
) -> PrepareReport:
    sides = {
        side: SideReport(**{key: told["sides"][side][key] for key in SideReport.__annotations__})
        for side in SIDES
    }
    return PrepareReport(
        data=data,
        sources=words,
        split_rule=told["rule"],
        train=sides["train"],
        validation=sides["validation"],
        longest=[(name, size) for name, size in told["longest"]],
        audit=None if told["audit"] is None else Audit.from_table(told["audit"]),
        n_skipped_sources=n_skipped,
        n_tokens=n_tokens,
    )
