"""docs/book.md: its code runs, and every name in its table exists."""

import re
from pathlib import Path
from typing import Any

import pytest

import groundup
import groundup.book
from groundup.cli.verbs import VERBS

PAGE = (Path(__file__).parents[2] / "docs" / "book.md").read_text("utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if re.match(r"\| \d", line)]


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/book.md", "exec"), names)
    assert names["val_losses"][-1] < names["val_losses"][0]


def test_every_name_of_the_book_has_a_row() -> None:
    listed = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[1])}
    assert listed == set(groundup.book.__all__)
    assert all(hasattr(groundup.book, name) for name in listed)


def test_every_counterpart_exists() -> None:
    commands = {verb.name for verb in VERBS}
    for row in ROWS:
        for name in re.findall(r"`([^`]+)`", row[2]):
            if name.startswith("groundup "):
                assert name.split()[1] in commands
            elif not name.startswith("groundup."):
                assert hasattr(groundup, name.split(".")[0]), name
