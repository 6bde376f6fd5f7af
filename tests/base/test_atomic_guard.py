"""Files and folders take their name only when all that is in them is on the disk."""

import os
from pathlib import Path

import pytest

from groundup.base.files import atomic_folder, atomic_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the operating system that matter, in their order."""
    found: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        found.append(f"sync {'temporary' if name.endswith('.tmp') else name}")
        fsync(descriptor)

    def recorded_replace(source: Path, goal: Path) -> None:
        found.append(f"rename to {'temporary' if goal.suffix == '.tmp' else goal.name}")
        replace(source, goal)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return found


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, calls: list[str]) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert calls == ["sync temporary", "rename to a.txt", f"sync {tmp_path.name}"]


def test_a_folder_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, calls: list[str]) -> None:
    for _ in range(2):
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "a.txt").write_text("a")
            (temporary / "b.txt").write_text("b")
    new = ["sync a.txt", "sync b.txt", "sync temporary"]
    named = ["rename to folder", f"sync {tmp_path.name}"]
    assert calls == [*new, *named, *new, "rename to temporary", *named]


def test_a_folder_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []
