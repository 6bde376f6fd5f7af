"""`groundup serve RUN --try N` respects the limits of the server, and fails if it finds faults."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_server import chat_run

from groundup.cli import serve as view
from groundup.cli.main import main
from groundup.serve import serve
from groundup.serve.load_test import LoadTest
from groundup.serve.serve import Server, try_server
from groundup.serve.sse_client import RefusedError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.serve.plan._STEP_BUDGET_S", 0.0)


def tried(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    status = main(["serve", str(run), "--try", "2", *options])
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    "limits",
    [
        [],
        ["--max-new-tokens", "4"],
        ["--max-prompt-tokens", "4"],
        ["--max-new-tokens", "4", "--max-prompt-tokens", "4", "--max-rows", "1"],
        ["--max-new-tokens", "1", "--max-prompt-tokens", "1"],
    ],
)
def test_the_limits_of_the_server_are_respected(
    run: Path, limits: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, screen, error = tried(run, capsys, "--deterministic", *limits)
    assert (status, error) == (0, "")
    assert "No answer was lost, cut or changed." in screen
    assert "nan" not in screen
    assert f"next: groundup serve {run}" in screen


def test_what_the_server_refuses_is_an_error(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **settings: Any) -> LoadTest:
        raise RefusedError(400, '{"error": {"message": "The prompt is odd."}}', None)

    monkeypatch.setattr(serve, "load_test", refused)
    status, _, error = tried(run, capsys)
    assert status == 1
    assert "The server refuses a request of the test: The prompt is odd." in error


def test_answers_that_the_time_limit_cuts_are_not_blamed_on_rounding(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, screen, error = tried(run, capsys, "--timeout-s", "0.001")
    assert status == 1
    assert "answers were cut: timeout_s is 0.001" in error
    assert "--timeout-s 600" in error
    assert "then the time limit of the server" in " ".join(screen.split())
    assert "rounded" not in screen + error


@pytest.mark.parametrize(
    ("found", "options", "says", "helps"),
    [
        ({"n_lost": 1}, ["--deterministic"], "1 of 6 answers were lost", ""),
        ({"n_changed": 2}, ["--deterministic"], "This is a bug.", ""),
        ({"n_changed": 2}, [], "2 of 6 answers are not", " --deterministic"),
    ],
)
def test_faults_are_a_failure(
    run: Path,
    found: dict[str, Any],
    options: list[str],
    says: str,
    helps: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def with_faults(server: Server, n_clients: int) -> LoadTest:
        return replace(try_server(server, n_clients), **{"n_changed": 0, **found})

    monkeypatch.setattr(view, "try_server", with_faults)
    status, screen, error = tried(run, capsys, *options)
    assert status == 1
    assert says in error
    assert helps in error
    assert ("Try:" in error) == bool(helps)
    assert "next:" not in screen
