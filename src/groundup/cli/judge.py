"""`groundup judge A B`: which answers a language model prefers, with the interval."""

from contextlib import ExitStack
from pathlib import Path

from groundup.cli.cells import shorten
from groundup.cli.console import Line, console, harmless, next_typed, note, progress, table, warn
from groundup.evaluation.judge.config import JudgeConfig
from groundup.evaluation.judge.judge import JudgeResult, judge

_FROM_CHANCE = 0.1


def run(config: JudgeConfig) -> JudgeResult:
    """Ask the judge and show how often each side wins."""
    with ExitStack() as stack:
        lines: dict[str, Line] = {}

        def update(name: str, done: int, total: int, unit: str) -> None:
            if name not in lines:
                stack.close()
                lines[name] = stack.enter_context(progress(name, total))
            lines[name].update(done, f"{done:,} of {total:,} {unit}")

        result = judge(
            config,
            lambda done, total: update("judge", done, total, "replies"),
            lambda run, done, total: update(f"answer {Path(run).name}", done, total, "answers"),
        )
    if config.show:
        _show_prompts(result)
        return result
    _show_result(config, result)
    return result


def _show_prompts(result: JudgeResult) -> None:
    for number, messages in enumerate(result.prompts, 1):
        note(f"\nRequest {number} of 2 for the first pair")
        for message in messages:
            console.print(f"[dim]{message['role']}[/dim]")
            console.print(harmless(message["content"]), markup=False, soft_wrap=True)


def _show_result(config: JudgeConfig, result: JudgeResult) -> None:
    a, b = (path.name for path in config.answers)
    n = result.n_pairs
    rows: list[tuple[str, int]] = [
        (f"{a} wins", result.n_wins_a),
        (f"{b} wins", result.n_wins_b),
        ("tie", result.n_ties),
        ("tie: another verdict in the other order", result.n_inconsistent),
    ]
    if result.n_unreadable:
        rows.append(("left out: no verdict in a reply", result.n_unreadable))
    table(
        f"{n:,} pairs, each judged in both orders by {config.model}",
        ["", "pairs", "share"],
        [[name, str(count), f"{count / n:.1%}"] for name, count in rows],
    )
    rate, test = result.win_rate, result.test
    assert rate is not None
    assert test is not None
    note(
        f"{a} wins {rate.mean:.1%} of {rate.n:,} pairs, a tie as one half (95 % interval "
        f"{rate.low:.1%} to {rate.high:.1%}; sign test p = {test.p_value:.2g})."
    )
    if rate.low <= 0.5 <= rate.high:
        note("That is no clear difference.")
    if result.n_preferences:
        share = result.n_first / result.n_preferences
        text = f"The judge preferred the first answer in {share:.0%} of its verdicts."
        (warn if abs(share - 0.5) > _FROM_CHANCE else note)(text)
    note(f"Asked {result.n_asked:,} requests; {result.n_from_log:,} replies were in the log.")
    for each in [each for each in result.judged if each.outcome == "b"][:1]:
        note(f"{b} wins {shorten(each.pair.question, 50)!r}: {shorten(each.replies[0], 150)}")
    note(f"Log of all exchanges: {result.log}")
    next_typed(["--show"])
