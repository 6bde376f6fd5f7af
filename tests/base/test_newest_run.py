"""Which run is the newest one: by the recorded time, then by its files, then by name."""

import json
import os
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.base.free_name import or_free_name
from groundup.base.newest_run import list_runs, newest_chat, newest_run


def make_run(
    folder: Path, at: str | None = "2026-01-01T10:00:00+0000", touched_s: int = 10**9
) -> Path:
    """A folder with what `list_runs` looks at."""
    checkpoint = folder / "checkpoints" / "step-000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "config.toml").write_text("")
    if at is not None:
        (folder / "manifest.json").write_text(json.dumps({"written_at": at}))
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (touched_s, touched_s))
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def test_the_recorded_time_decides(runs: Path) -> None:
    make_run(runs / "a", "2026-01-01T12:00:00+0000", touched_s=10**9)
    # Later on the clock, earlier in time; copied later.
    make_run(runs / "b", "2026-01-01T12:30:00+0200", touched_s=2 * 10**9)
    assert newest_run() == runs / "a"
    manifest = runs / "b" / "manifest.json"
    manifest.write_text('{"written_at": "2026-01-01", "finished_at": "2026-01-02T00:00:00+0000"}')
    assert newest_run() == runs / "b"


@pytest.mark.parametrize("at", ["2026-01-01T12:00:00+0000", None, "yesterday"])
def test_of_equal_times_the_files_decide_and_then_the_name(runs: Path, at: str | None) -> None:
    for name in ("run-9", "run-10", "run"):
        make_run(runs / name, at)
    assert [run.path.name for run in list_runs()] == ["run-10", "run-9", "run"]
    later = runs / "run" / "metrics.jsonl"
    later.write_text("")
    os.utime(later, (10**9 + 1, 10**9 + 1))
    assert newest_run() == runs / "run"


def test_only_a_run_that_can_serve_is_taken(runs: Path) -> None:
    whole = make_run(runs / "a")
    untrained = make_run(runs / "b", "2026-02-01T10:00:00+0000")
    (untrained / "checkpoints" / "step-000001" / "model.json").unlink()
    imported = make_run(runs / "c", "2026-01-02T10:00:00+0000")
    (imported / "tokenizer").rmdir()
    (imported / "config.toml").unlink()
    (runs / "notes").mkdir()
    (runs / "a file").write_text("")
    assert newest_run() == whole
    assert newest_run("training") == untrained
    with pytest.raises(UserError, match="groundup instruct runs/a"):
        newest_run("assistant")
    (whole / "assistant").mkdir()
    (whole / "assistant" / "assistant.json").write_text("{}")
    assert newest_run("assistant") == whole
    (whole / "tokenizer").rmdir()
    assert newest_run() == imported  # better a model without a tokenizer than none


def test_what_was_fine_tuned_last_chats(runs: Path) -> None:
    run = make_run(runs / "a")
    assert newest_chat(run) is None

    def tuned(name: str, hour: int) -> Path:
        folder = make_run(run / name, f"2026-01-01T{hour}:00:00+0000")
        (folder / "assistant.json").write_text("{}")
        return folder

    assert newest_chat(run) is None
    first = tuned("assistant", 13)
    assert newest_chat(run) == first
    preferred = tuned("preferred", 14)
    assert newest_chat(run) == preferred
    assert newest_chat(run) == preferred
    second = tuned("assistant-2", 15)
    assert newest_chat(run) == second
    inside = tuned("assistant/reinforced-2", 16)
    assert newest_chat(run) == inside
    make_run(run / "preferred-2", "2026-01-01T17:00:00+0000")  # not complete
    reward = make_run(run / "reinforced", "2026-01-01T18:00:00+0000")
    (reward / "evaluation").mkdir()
    (reward / "evaluation" / "reinforce.json").write_text("{}")
    assert newest_chat(run) == inside  # no assistant, and without a chat template
    (reward / "tokenizer" / "chat_template.jinja").write_text("")
    assert newest_chat(run) == reward


def test_a_corrupt_manifest_is_no_obstacle(runs: Path) -> None:
    run = make_run(runs / "a")
    (run / "manifest.json").write_text("{")
    assert newest_run() == run


@pytest.mark.parametrize("need", ["model", "training", "assistant"])
def test_without_a_run_it_is_said_what_to_type(need, runs: Path) -> None:
    with pytest.raises(UserError, match="Try: groundup story"):
        newest_run(need)
    (Path("data") / "train").mkdir(parents=True)
    (Path("data") / "train" / "documents.npy").touch()
    with pytest.raises(UserError, match="Try: groundup pretrain"):
        newest_run(need)


def test_a_free_name(tmp_path: Path) -> None:
    assert or_free_name(tmp_path / "data") == tmp_path / "data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data-2").write_text("")
    assert or_free_name(tmp_path / "data") == tmp_path / "data-3"
