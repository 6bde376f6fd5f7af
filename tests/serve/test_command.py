"""`groundup serve`: what it serves, what it prints, and the packages that it needs."""

import asyncio
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from tiny_server import chat_run

from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.serve.find_model import find_model, model_name
from groundup.serve.serve import Server, open_server


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Server, "run", lambda self: None)
    monkeypatch.setattr("groundup.serve.plan._STEP_BUDGET_S", 0.0)
    return Path("runs")


def test_the_plan_comes_before_the_address(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat_run(runs / "tiny")
    assert main(["serve", "tiny", "--port", "0", "--api-key", "long enough"]) == 0
    screen = capsys.readouterr().out
    plan, page, curl = (screen.index(text) for text in ("Plan", "Page: http://", "\ncurl http://"))
    assert plan < page < curl
    line = next(line for line in screen.splitlines() if line.startswith("curl"))
    assert '-H "Authorization: Bearer $GROUNDUP_API_KEY" -H' in line
    assert "long enough" not in screen
    body = json.loads(line.split(" -d '")[1].removesuffix("'"))
    assert body["model"] == "tiny"
    assert "messages" in body


def test_a_model_without_a_template_is_tried_with_a_text(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_run(runs / "base", template=None)
    assert main(["serve", "--port", "0"]) == 0  # the newest run
    assert "/v1/completions -H" in capsys.readouterr().out


def test_what_is_served(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = chat_run(runs / "story")
    assert find_model(run) == find_model(Path("story")) == find_model(Path("owner/story")) == run
    assert model_name(run) == "story"
    assistant = run / "assistant"
    shutil.copytree(run / "checkpoints" / "step-000000", assistant)
    shutil.copytree(run / "tokenizer", assistant / "tokenizer")
    (assistant / "assistant.json").write_text("{}")
    assert find_model(run) == assistant
    with monkeypatch.context() as patch:  # of a run that was trained on plays the cast answers
        patch.setattr("groundup.serve.find_model.cast_of", lambda path: object())
        assert find_model(run) == run
        assert find_model(assistant) == assistant
    assert model_name(assistant) == "story/assistant"
    assert find_model(run / ".." / "story").resolve() == assistant.resolve()
    shutil.copytree(assistant, assistant / "reinforced")
    assert find_model(assistant) == assistant
    assert model_name(Path(os.fsdecode(b"runs/caf\xe9"))).isprintable()
    checkpoint = run / "checkpoints" / "step-000000"
    assert find_model(checkpoint) == checkpoint
    assert model_name(checkpoint) == "story"


def test_a_model_that_was_not_imported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "smollm2"]) == 1
    error = capsys.readouterr().err
    assert "smollm2 has not been imported" in error
    assert "Try: groundup import smollm2 && groundup serve runs/smollm2" in error
    assert main(["serve", "nowhere"]) == 1
    assert "There is no run folder at this path" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_package_is_named_with_the_command(
    runs: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{package} is not installed") as info:
        open_server(chat_run(runs / "tiny"))
    assert info.value.command == "pip install -c constraints.txt -e '.[serve]'"


def test_other_machines_need_a_key(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat_run(runs / "tiny")
    assert main(["serve", "tiny", "--host", "0.0.0.0"]) == 2
    assert "GROUNDUP_API_KEY" in capsys.readouterr().err
    assert main(["serve", "tiny", "--port", "70000"]) == 2
    assert "port is 70000" in capsys.readouterr().err


def test_the_code_is_a_part_of_the_fingerprint(runs: Path) -> None:
    server = open_server(chat_run(runs / "tiny"), port=0)
    other = open_server(runs / "tiny", port=0, deterministic=True)
    first, second = server.served.fingerprint, other.served.fingerprint
    assert first.rpartition("-")[0] == second.rpartition("-")[0]
    assert first != second
    assert server.served.weights_sha256[:12] in first
    server.close()
    other.close()


def test_a_server_opens_where_an_event_loop_runs(runs: Path) -> None:
    run = chat_run(runs / "tiny")

    async def cell() -> None:
        server = open_server(run, port=0)
        assert server.plan.token_s > 0
        server.close()

    asyncio.run(cell())


def test_a_server_that_does_not_open_leaves_no_thread(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **settings: object) -> float:
        raise MemoryError

    monkeypatch.setattr("groundup.serve.http_cost.token_cost_s", fails)
    before = set(threading.enumerate())
    with pytest.raises(MemoryError):
        open_server(chat_run(runs / "tiny"), port=0)
    assert set(threading.enumerate()) <= before


def test_a_cache_without_room_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat_run(runs / "tiny")
    assert main(["serve", "tiny", "--port", "0", "--cache-gb", "1e-10"]) == 1
    assert "there are 0.0 MB" in " ".join(capsys.readouterr().err.split())
