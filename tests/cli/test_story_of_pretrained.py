"""`groundup story --pretrained`: an imported model instead of a trained one."""

from pathlib import Path

import pytest

from groundup.cli.main import main
from groundup.story.config import StoryConfig
from groundup.story.folder import open_story


def test_an_import_that_was_killed_runs_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "runs/first", "--out", "exported"]) == 0
    story = open_story(StoryConfig(sources=("text.txt",), pretrained="exported"))
    story.run.mkdir()  # what `kill -9` leaves
    assert main(["story", "text.txt", "--pretrained", "exported"]) == 0
    printed = capsys.readouterr().out
    assert f"Resuming the unfinished story in {story.path}/" in printed
    assert "1/8  import: pretrained weights" in printed
    assert [path.name for path in story.path.iterdir() if "model" in path.name] == ["model"]
    assert {"evaluate", "generate"} <= set(story.results())
    # The time is that of the last call only, and a model without a chat template has no chat.
    assert "All stages took" not in printed
    assert printed.rstrip().endswith(f"next: groundup generate {story.run}")
