"""The judge: both orders, ties where they disagree, nothing asked twice, no key in any file."""

import json
import threading
import time
from pathlib import Path

import pytest
from exported import write_assistant
from judge_server import answers_of, longer, said, serving

import groundup
from groundup.base.errors import UsageError, UserError
from groundup.evaluation.judge.client import ChatClient
from groundup.evaluation.judge.judge import EXCHANGES
from groundup.evaluation.judge.question import Verdict, outcome_of, verdict_of

KEY = "sk-very-secret-1234"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No proxy, no real key, and no waiting."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = ChatClient.__init__

    def init(self, *args, **keywords):
        made(self, *args, **{"first_wait_s": 0.01, **keywords})

    monkeypatch.setattr(ChatClient, "__init__", init)


def write(path: Path, answers: list[str]) -> Path:
    rows = [{"question": f"Question {i}?", "answer": a} for i, a in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path):
    """A is longer in 20 pairs, B in 8, equally long in 6, and 2 are the same."""
    a = ["long answer"] * 20 + ["short"] * 8 + ["equal"] * 6 + ["same", "same "]
    b = ["short"] * 20 + ["long answer"] * 8 + ["alike"] * 6 + ["same", "same"]
    return write(tmp_path / "a.jsonl", a), write(tmp_path / "b.jsonl", b)


def judge(files, server, **settings):
    return groundup.judge(files, url=server.url, model="a-judge", **settings)


def test_each_pair_is_asked_in_both_orders(files):
    with serving(longer) as server:
        result = judge(files, server)
    assert (result.n_wins_a, result.n_wins_b, result.n_ties) == (20, 8, 8)
    assert result.n_inconsistent == result.n_unreadable == 0
    assert result.n_asked == len(server.requests) == 2 * 34
    assert all(r["path"] == "/v1/chat/completions" for r in server.requests)
    assert all(r["model"] == "a-judge" and r["temperature"] == 0 for r in server.requests)
    orders = [answers_of(r) for r in server.requests]
    assert orders.count(("long answer", "short")) == orders.count(("short", "long answer")) == 28
    assert result.win_rate.mean == pytest.approx((20 + 4) / 36)
    assert result.win_rate.low < result.win_rate.mean < result.win_rate.high
    assert (result.test.n_only_a, result.test.n_only_b) == (20, 8)
    assert result.n_first / result.n_preferences == 0.5


@pytest.mark.parametrize("favorite", ["1", "2"])
def test_a_judge_that_prefers_a_place_finds_ties_only(files, favorite):
    with serving(lambda request: said(f"[[{favorite}]]")) as server:
        result = judge(files, server)
    assert (result.n_wins_a, result.n_wins_b, result.n_inconsistent) == (0, 0, 34)
    assert result.win_rate.mean == 0.5
    assert result.n_first / result.n_preferences == (favorite == "1")


def test_replies_without_a_verdict_are_left_out_and_counted(tmp_path):
    files = [write(tmp_path / f"{n}.jsonl", [f"{n * 5} {i}" for i in range(40)]) for n in "ab"]
    count = iter(range(1000))
    lock = threading.Lock()

    def sometimes(request):
        with lock:
            return said("I cannot say.") if next(count) < 5 else longer(request)

    with serving(sometimes) as server:
        result = judge(files, server, concurrency=1)
    assert result.n_unreadable == 3
    assert result.win_rate.n == 37
    with (
        serving(lambda request: said("Both.")) as server,
        pytest.raises(UsageError, match="0 pairs"),
    ):
        judge(files, server, out=tmp_path / "other")


def test_nothing_is_asked_twice(files, tmp_path):
    with serving(longer) as server:
        seen = []

        def stop(done, total):
            seen.append(done)
            if done == 9:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            judge(files, server, concurrency=1, on_verdict=stop)
        n = len(server.requests)
        assert 9 <= n <= 11
        log = tmp_path / "judge" / EXCHANGES
        with open(log, "a") as file:
            file.write('{"key": "ab')  # as `kill -9` may leave it
        result = judge(files, server)
        assert result.n_from_log >= 9
        assert len(server.requests) <= 68 + 2  # at most what was on its way when it was stopped
        n = len(server.requests)
        again = judge(files, server)
        assert (again.n_asked, again.n_from_log, len(server.requests)) == (0, 68, n)
        assert again.win_rate == result.win_rate
        judge(files, server, criterion="Judge the style.")
        assert len(server.requests) == n + 68


def test_the_key_is_sent_and_never_written(files, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(longer) as server:
        result = judge(files, server, key_variable="MY_KEY")
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()
    assert KEY not in repr(result)
    assert KEY not in caplog.text
    with serving(longer) as server:
        judge(files, server)
    assert all("Authorization" not in headers for headers in server.headers)


def refusing(status, message, headers=None):
    body = json.dumps({"error": {"message": message}}).encode()
    return lambda request: (status, headers or {}, body)


@pytest.mark.parametrize(
    ("behave", "message", "n_requests"),
    [
        (refusing(401, f"Incorrect key: {KEY}"), r"refuses the key \(status 401: .*\*\*\*\)", 1),
        (refusing(403, "x" * 190 + f" {KEY}"), r"refuses the key \(status 403: x+ \*\*\*\)", 1),
        (refusing(404, "no such model"), "does not know this address or the model 'a-judge'", 1),
        (refusing(400, "max_tokens is too large"), "refuses the request .*max_tokens is too", 1),
        (refusing(500, "out of memory"), "did not answer after 3 requests: status 500: out of", 3),
        (refusing(429, "slow down"), "after 3 requests: status 429: slow down", 3),
        (refusing(302, "", {"Location": "http://elsewhere"}), "sends to another address", 1),
        (lambda request: (200, {}, b"<html>hello"), "not that of an OpenAI-compatible server", 3),
        (lambda request: (200, {}, b'{"choices": []}'), "not that of an OpenAI-compatible", 3),
        (lambda request: (200, {}, b"[" * 9999), "not that of an OpenAI-compatible server", 3),
        (
            lambda request: (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
            "the reply has no text",
            3,
        ),
    ],
)
def test_a_server_that_misbehaves_is_described(files, behave, message, n_requests, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(behave) as server:
        with pytest.raises(UserError, match=message) as found:
            judge(files, server, retries=2, concurrency=1)
        assert server.url in str(found.value)
    assert KEY[:8] not in str(found.value)
    assert len(server.requests) == n_requests


def test_a_busy_server_is_asked_again(files):
    busy = iter([429, 500, 503] * 5)
    lock = threading.Lock()

    def behave(request):
        with lock:
            status = next(busy, None)
        headers = {"Retry-After": "0"} if status == 429 else {}
        return longer(request) if status is None else (status, headers, b"busy")

    with serving(behave) as server:
        assert judge(files, server, retries=15).n_wins_a == 20
    assert len(server.requests) == 68 + 15


def test_a_slow_server_is_given_up(files):
    with (
        serving(longer, delay_s=2.0) as server,
        pytest.raises(UserError, match=r"did not answer after 1 request: no reply within 0.2 s"),
    ):
        judge(files, server, timeout_s=0.2, retries=0, concurrency=1)


def test_no_server(files):
    with serving(longer) as server:
        pass
    with pytest.raises(UserError, match="cannot be reached"):
        judge(files, server, retries=1)
    began_at = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached"):
        ChatClient(server.url, "m", retries=0, first_wait_s=30.0).ask([])
    assert time.monotonic() - began_at < 25  # it does not wait after the last attempt


def test_requests_at_the_same_time_are_bounded(files):
    with serving(longer, delay_s=0.02) as server:
        judge(files, server, concurrency=3)
    assert 2 <= server.most_open <= 3


def test_what_was_answered_before_a_failure_is_kept(files, tmp_path):
    count = iter(range(1000))
    lock = threading.Lock()

    def behave(request):
        with lock:
            return longer(request) if next(count) < 30 else refusing(400, "no")(request)

    with serving(behave) as server, pytest.raises(UserError, match="refuses the request"):
        judge(files, server, concurrency=4)
    lines = (tmp_path / "judge" / EXCHANGES).read_text().splitlines()
    assert len(lines) == 30


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "begins with http:// or https:// is expected"),
        ("ftp://host/v1", "begins with http:// or https://"),
        ("http://[::1/v1", "begins with http:// or https://"),
        ("http://localhost:abc/v1", "begins with http:// or https://"),
        ("http://local host:1/v1", "begins with http:// or https://"),
        ("http://name:secret@host/v1", "contains a name or a password"),
        ("", "The url of the judge is not given"),
    ],
)
def test_a_bad_url(files, url, message):
    with pytest.raises(UsageError, match=message) as found:
        groundup.judge(files, url=url, model="m")
    assert "secret" not in str(found.value)


def test_bad_input(files, tmp_path):
    a, b = files
    few = [write(tmp_path / f"few-{n}.jsonl", [n] * 29) for n in "ab"]
    other = write(tmp_path / "other.jsonl", ["x"] * 40)
    cases = [
        ([a], "two runs, are expected, and the number of them is 1"),
        (few, "29 pairs of answers, which are too few to compare"),
        ([a, other], "no answer to 4 questions of .*other.jsonl, such as 'Question 36"),
        ([a, tmp_path], "One of the two is a folder"),
        ([tmp_path, tmp_path], "no questions that they could answer"),
        ([a, tmp_path / "none.jsonl"], "none.jsonl"),
    ]
    for answers, message in cases:
        with pytest.raises(UsageError, match=message):
            groundup.judge(answers, url="http://localhost:1/v1", model="m")
    bad = tmp_path / "bad.jsonl"
    for row, message in [
        ('{"text": "Q?"}', r"no field for an answer \(it has: text\)"),
        ('{"answer": "A"}', r"no field for a question \(it has: answer\)"),
        ('{"question": 4, "answer": "A"}', "is the number 4"),
        ("", "The file is empty"),
    ]:
        bad.write_text(row + "\n" * bool(row))
        with pytest.raises(UsageError, match=message):
            groundup.judge([bad, b], url="http://localhost:1/v1", model="m")


def test_show_asks_nothing(files):
    with serving(longer) as server:
        result = judge(files, server, show=True)
    assert server.requests == []
    straight, swapped = result.prompts
    assert answers_of({"messages": straight}) == ("long answer", "short")
    assert answers_of({"messages": swapped}) == ("short", "long answer")
    assert result.win_rate is None


def test_two_runs_answer_the_questions(tmp_path):
    assistant, _ = write_assistant(tmp_path / "assistant")
    other, _ = write_assistant(tmp_path / "other")
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(f'{{"question": "the cat {i}?"}}\n' for i in range(31)))
    with serving(longer) as server:
        result = judge([assistant, other], server, prompts=questions, max_new_tokens=5)
    assert {each.pair.a for each in result.judged} == {"hi"}
    assert result.n_ties == 31  # the same model twice
    assert server.requests == []
    (answers,) = (assistant / "evaluation" / "judge").glob("answers-assistant-*")
    assert len((answers / "items.jsonl").read_text().splitlines()) == 31


def test_verdicts():
    assert verdict_of("[[1]]") == "first"
    assert verdict_of("[[ TIE ]]") == "tie"
    assert verdict_of("[1]") == "unreadable"
    verdicts: tuple[Verdict, ...] = ("first", "second", "tie")
    table = [outcome_of(a, b) for a in verdicts for b in verdicts]
    odd = "inconsistent"
    assert table == [odd, "a", odd, "b", odd, odd, odd, odd, "tie"]
    assert outcome_of("unreadable", "first") == outcome_of("tie", "unreadable") == "unreadable"
