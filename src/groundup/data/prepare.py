"""The job `prepare`: from sources to a data folder, documents parted and audited."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from groundup.data.encode import encode_corpus, remove_outdated
from groundup.text.audit import Audit, audit
from groundup.text.builtin import BUILTIN_NAME, python_reference
from groundup.text.catalog import CATALOG, fetch
from groundup.text.corpus import write_corpus
from groundup.text.documents import Document, read_documents
from groundup.text.split import split_documents
from groundup.tokenizer.files import load_tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to read and where to put it."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, - for stdin, or a named text; without any: python-reference."""
    out: Path = Path("data")
    """The data folder to make."""
    validation_frac: float = 0.1
    """The share held out for validation."""
    seed: int = 1
    """What decides, with each document's hash, which side it is on."""
    encoding: str = "utf-8"
    """The encoding of the files."""
    separator: str | None = None
    """A string that ends a document inside a file, such as <|endoftext|>."""
    text_field: str = "text"
    """Which field of a JSON-lines record holds the text."""
    tokenizer: str | None = None
    """A tokenizer folder to encode with at once; without it, train-tokenizer comes next."""


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """The size of one side."""

    n_documents: int
    n_characters: int
    n_bytes: int
    n_words: int


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What was prepared."""

    data: Path
    sources: list[str]
    split_rule: str
    train: SideReport
    validation: SideReport
    longest: list[tuple[str, int]]
    audit: Audit


def prepare(config: PrepareConfig) -> PrepareReport:
    """Read, clean, part and audit documents; write DATA/corpus, and the stores if asked.

    Raises:
        UserError: A source cannot be read, or the text is too short.
    """
    sources = list(config.sources) or [BUILTIN_NAME]
    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    split = split_documents(
        _documents(sources, config), validation_frac=config.validation_frac, seed=config.seed
    )
    report = PrepareReport(
        data=config.out,
        sources=sources,
        split_rule=split.rule,
        train=_measure(split.train),
        validation=_measure(split.validation),
        longest=sorted(
            ((d.name, len(d.text)) for d in [*split.train, *split.validation]),
            key=lambda item: -item[1],
        )[:5],
        audit=audit(split.train, split.validation),
    )
    write_corpus(config.out, split.train, split.validation)
    # A store of another text would open, and be wrong.
    for folder in remove_outdated(config.out):
        _log.warning("removed %s: its tokens were made from an older text", folder)
    if tokenizer is not None:
        tokenizer.save(config.out / "tokenizer")
        encode_corpus(config.out, tokenizer)
    return report


def _documents(sources: list[str], config: PrepareConfig) -> Iterator[Document]:
    for source in sources:
        if source == BUILTIN_NAME:
            yield from python_reference()
            continue
        if source in CATALOG and not Path(source).exists():
            source = str(fetch(CATALOG[source]))
        yield from read_documents(
            [source],
            encoding=config.encoding,
            separator=config.separator,
            text_field=config.text_field,
        )


def _measure(documents: list[Document]) -> SideReport:
    return SideReport(
        n_documents=len(documents),
        n_characters=sum(len(document.text) for document in documents),
        n_bytes=sum(document.n_bytes for document in documents),
        n_words=sum(len(document.text.split()) for document in documents),
    )
