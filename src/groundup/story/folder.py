"""The run folder of a story: start one, or resume the unfinished one of the same text.

`story/identity.json` in it states the config and the text, `story/done.json` that all stages ended.
"""

import dataclasses
import glob
import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.errors import UserError
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.story.config import StoryConfig
from groundup.text.own_files import PIPED_TEXT
from groundup.text.sources import find_sources


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

    def discard(self) -> None:
        """Remove the run folder."""
        shutil.rmtree(self.path)


def open_story(config: StoryConfig) -> Story:
    """Resume an unfinished story of the same config and text, or start a new one.

    Raises:
        UserError: The run folder cannot be created.
    """
    piped = sys.stdin.buffer.read() if "-" in config.sources else None
    settings = configs.to_mapping(config)
    settings.pop("verbose", None)  # what is printed does not change the story
    identity = {
        "config": settings,
        "text": _text_identity(config.sources, piped),
    }
    unfinished = next((f for f in _unfinished(config.out) if _identity(f) == identity), None)
    path = unfinished or RunFolder.create(config.out).path
    if unfinished is None:
        files.write_json(path / "story" / "identity.json", identity)
    if piped is not None:  # a pipe can be read only once: later stages read this copy
        kept = path / PIPED_TEXT
        files.write_bytes(kept, piped)
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


def _text_identity(sources: tuple[str, ...], piped: bytes | None) -> str:
    """Fingerprint the sources by name, size and time: an edited text starts a new story.

    What a story itself writes into a folder of texts is no source, and does not count.
    """
    digest = hashlib.sha256(piped or b"")
    for source in sources:
        digest.update(source.encode("utf-8", "surrogatepass"))
        if os.path.exists(source) or glob.glob(source, recursive=True):
            for file in find_sources(source):
                digest.update(f"{file.name}:{file.stamp}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
