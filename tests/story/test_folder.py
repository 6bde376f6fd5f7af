"""The folder of a story: which unfinished one the same command resumes."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from groundup.base.config import to_mapping
from groundup.base.errors import UserError
from groundup.base.files import write_bytes, write_json
from groundup.base.results import record_result
from groundup.base.run import RunFolder
from groundup.story.config import StoryConfig
from groundup.story.folder import open_story
from groundup.story.stages import STAGES, run_stages
from groundup.train.config import PretrainConfig


@pytest.mark.parametrize("out", ["runs/a", "runs/a[1]"])
@pytest.mark.parametrize("source", [".", "**", "texts", "texts/*.txt", "texts/one.txt"])
def test_it_is_resumed_until_a_text_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "texts" / "one.txt"
    file.parent.mkdir()
    file.write_text("one", "utf-8")
    with suppress(OSError):  # where names are Unicode
        (file.parent / os.fsdecode(b"caf\xe9.txt")).write_text("more", "utf-8")
    config = StoryConfig(sources=(source,), out=Path(out))
    first = open_story(config)
    write_bytes(first.data / "corpus" / "train.jsonl", b"{}\n")
    write_json(first.data / "corpus" / "manifest.json", {"format_version": 1, "sides": {}})
    again = open_story(config)
    assert (first.is_resumed, again.is_resumed, again.path) == (False, True, first.path)
    file.write_text("two", "utf-8")
    os.utime(file, ns=(1, 1))
    assert not open_story(config).is_resumed


class Pipe(io.BytesIO):
    """A pipe that must not be read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size <= 2**20
        return super().read(size)


def test_a_pipe_is_copied_in_parts_and_named_in_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = StoryConfig(sources=("-",), out=Path("runs/a"))
    text = bytes(range(256)) * 5000  # more than one part
    stories = []
    for piped in (text, text, text + b"."):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(piped)))
        stories.append(open_story(config))
        copy = Path(stories[-1].config.sources[0])
        assert copy.read_bytes() == piped
        assert not list(Path("runs").glob(".*"))
    assert [story.is_resumed for story in stories] == [False, True, False]

    def fails(verb: str, config: Any) -> None:
        raise UserError("This is no text.", where=f"{config.sources[0]}:3")

    def nothing(*arguments: Any) -> None: ...

    with pytest.raises(UserError, match=r"^standard input:3: This is no text"):
        run_stages(stories[-1], fails, on_start=nothing, on_skip=nothing)
    assert not stories[-1].path.exists()


def test_pretraining_that_was_interrupted_after_its_result_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figure and its README come after the result."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.txt").write_text("one", "utf-8")
    story = open_story(StoryConfig(sources=("one.txt",), out=tmp_path / "run"))
    for stage in STAGES:
        folder = story.data if stage.verb in ("prepare", "train-tokenizer") else story.run
        record_result(folder, stage.verb, {"train": {"n_characters": 10_000}})
    choice = to_mapping(PretrainConfig(data=story.data, out=story.path))
    write_json(story.path / "story" / "pretraining.json", choice)

    def finished() -> dict[str, bool]:
        found = {}

        def note(number: int, stage: Any, is_finished: bool) -> None:
            found[stage.verb] = is_finished

        run_stages(story, lambda verb, config: None, on_start=note, on_skip=lambda error: None)
        return found

    assert {verb for verb, is_finished in finished().items() if not is_finished} == {"pretrain"}
    RunFolder(story.run).write_manifest({"finished_at": "2026-01-01"})
    assert all(finished().values())
