"""Public texts that can be downloaded by name: their address, license, size and hash.

A download is compared with its SHA-256 before it gets its name; a text that is already there and
complete is not downloaded again.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import atomic_path, sha256_file

_log = logging.getLogger(__name__)

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True, kw_only=True)
class PublicText:
    """A text that anyone may download."""

    name: str
    url: str
    license: str
    n_bytes: int
    sha256: str
    about: str


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
    )
}


def fetch(text: PublicText, folder: Path = Path("texts")) -> Path:
    """Return the path of a public text, downloading it on first use.

    Raises:
        UserError: The download fails, or its hash is not the expected one.
    """
    goal = folder / f"{text.name}.txt"
    if goal.is_file() and sha256_file(goal) == text.sha256:
        return goal
    import pooch

    _log.info("downloading %s (%d bytes) from %s", text.name, text.n_bytes, text.url)
    with atomic_path(goal) as temporary:
        try:
            downloader = pooch.HTTPDownloader(timeout=20)
            downloader(text.url, str(temporary), None)
        except OSError as error:  # requests' errors are OSErrors
            raise UserError(
                f"{text.name} cannot be downloaded from {text.url} ({type(error).__name__}). "
                "Without internet access, use a text of your own or the built-in one, "
                "python-reference.",
                command="groundup prepare python-reference",
            ) from error
        found = sha256_file(temporary)
        if found != text.sha256:
            raise UserError(
                f"The download from {text.url} is not {text.name}. "
                f"Its SHA-256 is {found}; {text.sha256} is expected.",
                command="groundup prepare python-reference",
            )
    return goal
