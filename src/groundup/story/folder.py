"""The run folder of a story: start one, or resume the unfinished one of the same text.

`story/identity.json` in it states the config and the text, `story/done.json` that all stages ended.
"""

import dataclasses
import glob
import hashlib
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.errors import UsageError, UserError
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.story.config import StoryConfig
from groundup.text.own_files import PIPED_TEXT
from groundup.text.sources import find_sources

_PART_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Story:
    """The config and the run folder, for every stage."""

    config: StoryConfig
    path: Path
    is_resumed: bool
    """Whether an earlier call started it."""

    @property
    def data(self) -> Path:
        """The data folder inside the run."""
        return self.path / "data"

    @property
    def run(self) -> Path:
        """The run folder of the model: the story itself, or an imported model inside it."""
        return self.path if self.config.pretrained is None else self.path / "model"

    def results(self) -> dict[str, Any]:
        """Read the results of the finished stages, by command."""
        return read_results(self.data) | read_results(self.run)

    def finish(self, elapsed_s: float) -> None:
        """Record that all stages ended; the same command starts a new story from now on."""
        files.write_json(self.path / "story" / "done.json", {"elapsed_s": elapsed_s})

    def named_as_typed(self, error: UserError) -> UserError:
        """Return an error that names standard input instead of the copy of it."""
        copy = str(self.path / PIPED_TEXT)
        if copy not in error.located:
            return error
        kind = UsageError if isinstance(error, UsageError) else UserError
        return kind(
            error.message.replace(copy, "standard input"),
            where=None if error.where is None else str(error.where).replace(copy, "standard input"),
            command=error.command,
            settings=error.settings,
        )

    def discard(self) -> None:
        """Remove the run folder."""
        shutil.rmtree(self.path)


def open_story(config: StoryConfig) -> Story:
    """Resume an unfinished story of the same config and text, or start a new one.

    Raises:
        UserError: The run folder cannot be created, or a piped text cannot be copied to it.
    """
    if "-" not in config.sources:
        return _opened(config, None, hashlib.sha256())
    # A pipe can be read only once: later stages read this copy.
    copy = config.out.parent / f".{config.out.name}.{uuid.uuid4().hex}.stdin"
    try:
        return _opened(config, copy, _copy_pipe(copy))
    finally:
        copy.unlink(missing_ok=True)


def _copy_pipe(copy: Path) -> Any:
    """Copy standard input to a file in parts, and return the hash object of hashlib for it."""
    digest = hashlib.sha256()
    with files.atomic_path(copy) as temporary, open(temporary, "wb") as file:
        while part := sys.stdin.buffer.read(_PART_BYTES):
            digest.update(part)
            file.write(part)
    return digest


def _opened(config: StoryConfig, copy: Path | None, digest: Any) -> Story:
    settings = configs.to_mapping(config)
    settings.pop("verbose", None)  # what is printed does not change the story
    identity = {
        "config": settings,
        "text": _text_identity(config.sources, digest),
    }
    unfinished = next((f for f in _unfinished(config.out) if _identity(f) == identity), None)
    path = unfinished or RunFolder.create(config.out).path
    if unfinished is None:
        files.write_json(path / "story" / "identity.json", identity)
    if copy is not None:
        kept = path / PIPED_TEXT
        os.replace(copy, kept)
        sources = tuple(str(kept) if source == "-" else source for source in config.sources)
        config = dataclasses.replace(config, sources=sources)
    return Story(config=config, path=path, is_resumed=unfinished is not None)


def _unfinished(out: Path) -> list[Path]:
    """Find the unfinished stories of this name."""
    if not out.parent.is_dir():
        return []
    names = f"{glob.escape(out.name)}*"
    named = sorted(path for path in out.parent.glob(names) if path.is_dir())
    return [path for path in named if not (path / "story" / "done.json").exists()]


def _identity(folder: Path) -> Any:
    try:
        identity = files.read_json(folder / "story" / "identity.json")
        return identity | {"config": configs.with_current_names(StoryConfig, identity["config"])}
    except (UserError, KeyError, TypeError):
        return None


def _text_identity(sources: tuple[str, ...], digest: Any) -> str:
    """Fingerprint the sources by name, size and time: an edited text starts a new story.

    `digest` has the content of a pipe. What a story itself writes into a folder of texts is no
    source, and does not count.
    """
    for source in sources:
        digest.update(source.encode("utf-8", "surrogatepass"))
        if os.path.exists(source) or glob.glob(source, recursive=True):
            for file in find_sources(source):
                digest.update(f"{file.name}:{file.stamp}".encode("utf-8", "surrogatepass"))
    found: str = digest.hexdigest()
    return found
