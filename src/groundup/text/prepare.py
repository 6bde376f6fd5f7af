"""`prepare`: from documents to a corpus that is split into training and validation set.

Text streams through: memory use does not depend on the size of the corpus. When it is run again,
a corpus of the same sources and settings is kept.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.dependents import runs_on
from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, in_place, read_json
from groundup.base.malloc import MemoryReturner
from groundup.base.undo import undo_interrupted
from groundup.text.audit import Audit, Auditor
from groundup.text.config import PrepareConfig
from groundup.text.corpus import (
    SIDES,
    CorpusWriter,
    corpus_manifest,
    read_corpus_pieces,
    recorded_sources,
    verify_corpus,
)
from groundup.text.held import (
    check_split,
    hashes_of,
    is_same,
    new_sources,
    options_of,
    reading_options,
    without,
)
from groundup.text.left_out import LeftOut
from groundup.text.pieces import Piece
from groundup.text.read import read_pieces
from groundup.text.sources import Source, default_text, find_sources, named_text
from groundup.text.split import Splitter
from groundup.text.stores import remove_outdated
from groundup.text.taken import changing, check_replaceable, refused_change, source_names

_log = logging.getLogger(__name__)

_N_LONGEST = 5
_REPORTED_EVERY_BYTES = 2**22

Progress = Callable[[str, int, int | None], None]
"""Called now and then with (stage, bytes done, total bytes or None)."""


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """The size of one side."""

    n_documents: int
    n_characters: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What was prepared."""

    data: Path
    sources: list[str]
    split_rule: str
    train: SideReport
    validation: SideReport
    longest: list[tuple[str, int]]
    """The longest documents and their length in characters."""
    audit: Audit | None
    n_skipped_sources: int
    """Number of sources that the corpus contained already, unchanged."""
    left_out: LeftOut
    """What the sources contain and the corpus does not, with the reasons."""


@takes_settings(PrepareConfig, "sources")
def prepare(config: PrepareConfig, on_progress: Progress | None = None) -> PrepareResult:
    """Read, clean, split and audit documents, and write them to DATA/corpus.

    A corpus of other sources, or one that a run was trained on, is replaced only with `overwrite`.
    Token stores in DATA that were made from the replaced text are removed. An error leaves the
    data folder as it was.

    Raises:
        UserError: A source cannot be read, the text is too short, or DATA contains something else.
    """
    words = list(config.sources) or [default_text()]
    corpus = config.out / "corpus"
    undo_interrupted(config.out)
    held = _held_manifest(config, corpus)
    if config.append and held is None:
        raise UserError(
            "There is nothing to append to. A data folder written by `groundup prepare` is "
            "expected; without append, a new one is written.",
            where=config.out,
            settings={"append": False},
        )
    if config.append and held is not None:
        check_split(held, config)
    left_out = LeftOut()
    sources = _distinct(words, left_out) if config.sources else named_text(words[0])
    config = replace(config, sources=tuple(words))
    todo = new_sources(held, sources, config) if config.append and held else sources
    keep = held is not None and not config.append and is_same(held, sources, config)
    if keep and _is_intact(corpus):
        _log.info("the corpus in %s was made from the same sources: kept", corpus)
        todo = []
    elif todo:
        must_be_equal = False
        if not config.append:
            must_be_equal = check_replaceable(
                config.out, held, words, sources, overwrite=config.overwrite
            )
        elif runs := runs_on(config.out):
            _log.warning(
                "The run %s was trained on this data. After the append, the data differs from what "
                "the run records.",
                runs[0],
            )
        with changing(config.out, always=config.append):
            _write_corpus(config, todo, held, left_out, on_progress, must_be_equal)
            # A store of another text would open, and be wrong.
            for folder in [] if config.append else remove_outdated(config.out):
                _log.warning("removed %s: its tokens were made from another text", folder)
    manifest = read_json(corpus / "manifest.json")
    result = _result(config.out, words, manifest, len(sources) - len(todo))
    _warn_of_uneven_split(result, manifest["options"])
    return result


def _write_corpus(
    config: PrepareConfig,
    sources: list[Source],
    held: dict[str, Any] | None,
    left_out: LeftOut,
    on_progress: Progress | None,
    must_be_equal: bool,
) -> None:
    """Write the corpus, or append to the present one, whose manifest is `held`."""
    present, held = held, held if config.append else None
    auditor = Auditor() if config.audit else None
    if auditor is not None and held is not None:
        for side in SIDES:
            for piece in read_corpus_pieces(config.out, side):
                auditor.add(side, piece)
    longest = [] if held is None else [(name, size) for name, size in held["longest"]]
    size = 0
    options = options_of(config) if held is None else held["options"]
    splitter = Splitter(
        may_leave_empty=held is not None,
        validation_frac=options["validation_frac"],
        seed=options["seed"],
        rule=None if held is None else held["rule"],
        spool_in=config.out,
    )
    reading = _Meter("read", on_progress, _n_bytes(sources))
    writing = _Meter("split", on_progress, None)
    pieces = read_pieces(sources, config, left_out=left_out)
    corpus = config.out / "corpus"
    with (
        atomic_folder(corpus)
        if held is None
        else in_place(corpus, "the corpus is as it was") as folder,
        closing(CorpusWriter(folder, append=held is not None)) as writer,
    ):
        for side, piece in splitter.split(reading.watch(pieces)):
            writer.write(side, piece)
            if reading.is_over:  # a few huge documents wait on disk until all are read
                writing.total_bytes = reading.n_bytes
                writing.add(piece)
            if auditor is not None:
                auditor.add(side, piece)
            size = len(piece.text) + (0 if piece.is_first else size)
            if piece.is_last and (len(longest) < _N_LONGEST or size > longest[-1][1]):
                longest = sorted([*longest, (piece.name, size)], key=lambda row: -row[1])
                longest = longest[:_N_LONGEST]
        if must_be_equal and present is not None and not writer.is_equal(present):
            raise refused_change(config.out, present)
        before = recorded_sources(held) if held is not None else []
        names = source_names(config.sources)
        read = without(sources, left_out.unread)
        writer.finish(
            sources=list(dict.fromkeys([*before, *names])),
            stamps=(held["stamps"] if held is not None else []) + [source.stamp for source in read],
            sha256={**(held.get("sha256", {}) if held is not None else {}), **hashes_of(read)},
            unread=(held.get("unread", []) if held is not None else []) + left_out.unread,
            options=options,
            appended=_appended(held, names, config),
            rule=splitter.rule,
            longest=longest,
            audit=None if auditor is None else asdict(auditor.finish()),
            left_out=left_out.to_table(),
            left_out_before=_left_out_before(held),
        )


class _Meter:
    """Count the bytes of pieces and report them now and then."""

    def __init__(self, stage: str, on_progress: Progress | None, total_bytes: int | None) -> None:
        self.n_bytes, self.total_bytes, self.is_over = 0, total_bytes, False
        self._stage, self._on_progress, self._reported_at = stage, on_progress, 0
        self._memory = MemoryReturner()

    def add(self, piece: Piece) -> None:
        n_bytes = len(piece.text.encode("utf-8"))
        self.n_bytes += n_bytes
        self._memory.passed(n_bytes)
        since = self.n_bytes - self._reported_at
        if self._on_progress is not None and since >= _REPORTED_EVERY_BYTES:
            self._reported_at = self.n_bytes
            self._on_progress(self._stage, self.n_bytes, self.total_bytes)

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self.add(piece)
            yield piece
        self.is_over = True


def _held_manifest(config: PrepareConfig, corpus: Path) -> dict[str, Any] | None:
    """Read the manifest of the present corpus; a damaged one may be replaced."""
    if not (corpus / "manifest.json").is_file():
        return None
    try:
        return corpus_manifest(corpus, for_prepare=True)
    except UserError:
        if config.overwrite and not config.append:
            return None
        raise


def _distinct(words: list[str], left_out: LeftOut) -> list[Source]:
    """Find the sources, each one once."""
    found: dict[tuple[Any, ...], Source] = {}
    for source in (source for word in words for source in find_sources(word, left_out=left_out)):
        # The first part of a stamp is the name by which it was found. Without a file, the place.
        key = (source.place,) if None in source.stamp else tuple(source.stamp[1:])
        if source.place != "-" and key in found:
            left_out.add("sources that were named twice", source.name)
        else:
            found[key] = source
    return list(found.values())


def _left_out_before(held: dict[str, Any] | None) -> list[Any]:
    """What earlier commands left out of the corpus that is appended to."""
    return [] if held is None else [*held.get("left_out_before", []), held.get("left_out", {})]


def _appended(
    held: dict[str, Any] | None, names: list[str], config: PrepareConfig
) -> list[dict[str, Any]]:
    """List the appends to a corpus: their sources, and how they were read."""
    if held is None:
        return []
    last = {"sources": names, "options": reading_options(config)}
    return [*held.get("appended", []), last]


def _n_bytes(sources: list[Source]) -> int | None:
    """Sum the sizes of the sources; None if one is unknown."""
    sizes = [source.n_bytes for source in sources]
    return None if None in sizes else sum(size for size in sizes if size)


def _is_intact(corpus: Path) -> bool:
    try:
        verify_corpus(corpus)
    except UserError as damage:
        _log.warning("the corpus is written again: %s", damage.located)
        return False
    return True


def _warn_of_uneven_split(result: PrepareResult, options: dict[str, Any]) -> None:
    """Warn where the sizes of whole documents make the validation set much smaller or larger."""
    asked, held_out = options["validation_frac"], result.validation.n_characters
    n_characters = held_out + result.train.n_characters
    frac = held_out / max(1, n_characters)
    if result.split_rule == "by document" and not asked / 2 <= frac <= asked * 2:
        name, size = result.longest[0]
        _log.warning(
            "The validation set has %.1f%% of the text, where %.1f%% was asked for: each document "
            "goes there with this probability. The longest document, %s, has %.1f%% of the text. "
            "To split in another way, prepare the sources with another seed, for example %d.",
            100 * frac,
            100 * asked,
            name,
            100 * size / max(1, n_characters),
            options["seed"] + 1,
        )


def _result(
    data: Path, words: list[str], manifest: dict[str, Any], n_skipped: int
) -> PrepareResult:
    sides = {
        side: SideReport(
            **{key: manifest["sides"][side][key] for key in SideReport.__annotations__}
        )
        for side in SIDES
    }
    return PrepareResult(
        data=data,
        sources=words,
        split_rule=manifest["rule"],
        train=sides["train"],
        validation=sides["validation"],
        longest=[(name, size) for name, size in manifest["longest"]],
        audit=None if manifest["audit"] is None else Audit.from_table(manifest["audit"]),
        n_skipped_sources=n_skipped,
        left_out=LeftOut.from_table(manifest.get("left_out")),
    )
