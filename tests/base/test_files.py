"""A file is whole or absent."""

from pathlib import Path

import pytest

from groundup.base import files
from groundup.base.errors import UserError


def test_an_error_midway_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    goal = tmp_path / "a.txt"
    files.write_text(goal, "old")

    def write_half() -> None:
        with files.atomic_path(goal) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert goal.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    goal = tmp_path / "d"
    for content in ("one", "two"):
        with files.atomic_folder(goal) as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / "f").write_text(content)
            assert not goal.exists() or (goal / "inner" / "f").read_text() == "one"
    assert (goal / "inner" / "f").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        files.write_text(tmp_path / "file" / "below", "x")


def test_json_that_is_missing_or_broken_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="JSON"):
        files.read_json(tmp_path / "bad.json")
