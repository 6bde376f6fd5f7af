"""A file is whole or absent."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
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


@pytest.mark.parametrize("write", [files.atomic_path, files.atomic_folder, files.in_place])
def test_an_output_without_a_reader_is_not_an_error_of_the_file(
    write: Callable[..., AbstractContextManager[Path]], tmp_path: Path
) -> None:
    def print_midway() -> None:
        with write(tmp_path / "a", *["unchanged"] * (write is files.in_place)):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        print_midway()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    goal = tmp_path / "d"
    for content in ("one", "two"):
        with files.atomic_folder(goal) as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / "f").write_text(content)
            assert not goal.exists() or (goal / "inner" / "f").read_text() == "one"
    assert (goal / "inner" / "f").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_cleanup_that_is_interrupted_is_done_later(
    is_new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = tmp_path / "d"
    if not is_new:
        goal.mkdir()
        (goal / "f").write_text("old")

    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    def write() -> None:
        with files.atomic_folder(goal) as temporary:
            (temporary / "f").write_text("new")
            if is_new:
                raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write()
    assert any(path.suffix == ".tmp" for path in tmp_path.iterdir())
    files.clean_up_interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["d"] * (not is_new)
    assert is_new or (goal / "f").read_text() == "new"


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize("write", [files.atomic_path, files.atomic_folder])
def test_a_name_that_no_file_can_have_leaves_no_cleanup(
    name: str, write: Callable[..., AbstractContextManager[Path]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"null|surrogates"), write(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert files._cleanups == []


def test_the_old_folder_comes_back_where_its_return_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = tmp_path / "d"
    goal.mkdir()
    (goal / "f").write_text("old")
    replace = os.replace
    moved: list[Path] = []

    def interrupted(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        replace(source, target)
        moved.append(source)

    def write() -> None:
        with files.atomic_folder(goal) as temporary:
            (temporary / "f").write_text("new")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write()
    assert not goal.exists()
    files.clean_up_interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert (goal / "f").read_text() == "old"


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_files_have_the_mode_that_the_umask_allows(umask: int, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # as safetensors does

    before = os.umask(umask)
    try:
        with files.atomic_path(tmp_path / "one") as temporary:
            write(temporary)
        with files.atomic_folder(tmp_path / "folder") as temporary:
            write(temporary / "two")
            (temporary / "inner").mkdir()
            write(temporary / "inner" / "three")
        files.write_text(tmp_path / "four", "")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        most = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == most & ~umask, path


def test_text_with_surrogates_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    files.write_text(tmp_path / "a", f"{name} \ud83d gr\udcc3\udcbcn")
    assert (tmp_path / "a").read_text("utf-8") == "caf\ufffd \ufffd grün"
    files.write_json(tmp_path / "b", {"name": name, "other": "ü"})
    assert files.read_json(tmp_path / "b") == {"name": name, "other": "ü"}


def test_a_link_to_a_folder_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    there, link = tmp_path / "disk" / "there", tmp_path / "here" / "link"
    there.mkdir(parents=True)
    link.parent.mkdir()
    (there / "old").touch()
    link.symlink_to(there)
    with files.atomic_folder(link) as temporary:
        (temporary / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in there.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["there"]
    assert [path.name for path in link.parent.iterdir()] == ["link"]
