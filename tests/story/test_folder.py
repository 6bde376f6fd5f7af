"""The folder of a story: which unfinished one the same command resumes."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from groundup.base.files import write_bytes, write_json
from groundup.story.config import StoryConfig
from groundup.story.folder import open_story


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
