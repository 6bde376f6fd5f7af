"""Judge two sets of answers: each pair in both orders, ties where the verdicts disagree."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from groundup.base.calling import takes_settings
from groundup.base.errors import UsageError, UserError
from groundup.base.run import RunFolder
from groundup.evaluation.judge.client import ChatClient
from groundup.evaluation.judge.config import JudgeConfig
from groundup.evaluation.judge.pairs import OnAnswer, read_pairs
from groundup.evaluation.judge.question import (
    Messages,
    Outcome,
    Pair,
    messages,
    outcome_of,
    verdict_of,
)
from groundup.evaluation.paired import Interval, McNemar, bootstrap, mcnemar, require_items
from groundup.evaluation.tasks.log import fingerprint

EXCHANGES = "exchanges.jsonl"
OnVerdict = Callable[[int, int], None]
"""Called with the number of replies so far, and the number of requests."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A pair and what the judge said in both orders."""

    pair: Pair
    outcome: Outcome
    replies: tuple[str, str]
    """A first, then B first; empty for equal answers, which are a tie."""


@dataclass(frozen=True, kw_only=True)
class JudgeResult:
    """How often each set of answers is better."""

    prompts: tuple[Messages, Messages]
    """What is asked about the first pair, A first and B first."""
    n_pairs: int
    n_wins_a: int
    n_wins_b: int
    n_ties: int
    """Ties in both orders, and equal answers."""
    n_inconsistent: int
    """Pairs whose verdicts disagree; they count as ties."""
    n_unreadable: int
    """Pairs for which a reply has no verdict; they are left out."""
    n_first: int
    """How often the answer that comes first was preferred, among `n_preferences` verdicts."""
    n_preferences: int
    win_rate: Interval | None
    """Share of pairs that A wins, a tie as one half, with its interval. None: nothing was asked."""
    test: McNemar | None
    """The sign test of wins against losses."""
    n_asked: int
    n_from_log: int
    log: Path
    judged: tuple[Judged, ...]


@takes_settings(JudgeConfig, "answers")
def judge(
    config: JudgeConfig,
    on_verdict: OnVerdict | None = None,
    on_answer: OnAnswer | None = None,
) -> JudgeResult:
    """Ask a model which of two answers is better, for each pair in both orders.

    All exchanges are written to a log, from which the same command continues.

    Raises:
        UsageError: The answers are not valid, or fewer than 30 pairs are left.
        UserError: The server refuses a request, or does not answer.
    """
    out = config.out or _default_folder(config)
    pairs = read_pairs(config, out, on_answer)
    _require(len(pairs), "pairs of answers")
    first = tuple(messages(pairs[0], config.criterion, swapped=s) for s in (False, True))
    if config.show:
        return _result(first, [], out, 0, 0)
    client = _client(config)
    log = _ExchangeLog(out / EXCHANGES)
    wanted: dict[str, Messages] = {}
    keys: list[tuple[str, str] | None] = []
    for pair in pairs:
        if pair.a.strip() == pair.b.strip():
            keys.append(None)
            continue
        asked = [messages(pair, config.criterion, swapped=swapped) for swapped in (False, True)]
        own = [fingerprint([client.url, client.body(each)]) for each in asked]
        wanted.update(zip(own, asked, strict=True))
        keys.append((own[0], own[1]))
    missing = {key: each for key, each in wanted.items() if key not in log.replies}
    n_from_log = len(wanted) - len(missing)

    def on_reply(key: str, reply: str) -> None:
        log.add(key, client.body(missing[key]), reply)
        if on_verdict is not None:
            on_verdict(len(wanted) - len(missing.keys() - log.replies.keys()), len(wanted))

    client.ask_all(missing, on_reply, concurrency=config.concurrency)
    judged = [_judged(pair, own, log.replies) for pair, own in zip(pairs, keys, strict=True)]
    _require(
        sum(each.outcome != "unreadable" for each in judged), "pairs with a verdict in both orders"
    )
    return _result(first, judged, out, len(missing), n_from_log)


def _judged(pair: Pair, keys: tuple[str, str] | None, replies: dict[str, str]) -> Judged:
    if keys is None:
        return Judged(pair=pair, outcome="tie", replies=("", ""))
    found = replies[keys[0]], replies[keys[1]]
    return Judged(
        pair=pair, outcome=outcome_of(verdict_of(found[0]), verdict_of(found[1])), replies=found
    )


def _result(
    prompts: Any, judged: Sequence[Judged], out: Path, n_asked: int, n_from_log: int
) -> JudgeResult:
    n = Counter(each.outcome for each in judged)
    verdicts = [verdict_of(reply) for each in judged for reply in each.replies if reply]
    n_first, n_second = verdicts.count("first"), verdicts.count("second")
    points = {"a": 1.0, "b": 0.0, "tie": 0.5, "inconsistent": 0.5}
    scores = [points[each.outcome] for each in judged if each.outcome != "unreadable"]
    wins = [each.outcome == "a" for each in judged], [each.outcome == "b" for each in judged]
    return JudgeResult(
        prompts=prompts,
        n_pairs=len(judged),
        n_wins_a=n["a"],
        n_wins_b=n["b"],
        n_ties=n["tie"],
        n_inconsistent=n["inconsistent"],
        n_unreadable=n["unreadable"],
        n_first=n_first,
        n_preferences=n_first + n_second,
        win_rate=bootstrap(scores) if scores else None,
        test=mcnemar(*wins) if judged else None,
        n_asked=n_asked,
        n_from_log=n_from_log,
        log=out / EXCHANGES,
        judged=tuple(judged),
    )


class _ExchangeLog:
    """All requests and replies, so that nothing is asked twice. It never holds the key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.replies: dict[str, str] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        complete = [line for line in lines if line.endswith(b"\n")]
        for line in complete:
            try:
                row = orjson.loads(line)
                self.replies[row["key"]] = row["reply"]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    "This line of the log is damaged. Remove the line or the file.", where=path
                ) from error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.truncate(sum(map(len, complete)))
        except OSError as error:
            raise UserError(
                f"The log of the exchanges cannot be written ({error.strerror}). Another folder "
                "is expected: what was asked must not be lost.",
                where=path,
                settings={"out": "judge"},
            ) from error

    def add(self, key: str, body: dict[str, Any], reply: str) -> None:
        """Append an exchange."""
        self.replies[key] = reply
        line = json.dumps({"key": key, "request": body, "reply": reply}) + "\n"
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(line)


def _client(config: JudgeConfig) -> ChatClient:
    for name, example in (("url", "http://localhost:8000/v1"), ("model", "name-of-the-model")):
        if not getattr(config, name):
            raise UsageError(f"The {name} of the judge is not given.", settings={name: example})
    return ChatClient(
        config.url,
        config.model,
        key=os.environ.get(config.key_variable, ""),
        timeout_s=config.timeout_s,
        retries=config.retries,
        max_tokens=config.max_reply_tokens,
    )


def _default_folder(config: JudgeConfig) -> Path:
    if not config.answers:
        return Path("judge")
    first = config.answers[0]
    if first.is_dir():
        return RunFolder.of(first).evaluation / "judge"
    return first.parent / "judge"


def _require(n: int, what: str) -> None:
    try:
        require_items(n, what)
    except UserError as error:
        raise UsageError(error.message) from error
