"""`groundup evaluate RUN --task FILE`: scores with intervals, baselines, mistakes, a comparison."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from groundup.base.errors import quoted
from groundup.cli.cells import interval, shorten
from groundup.cli.console import Line, next_command, next_typed, note, progress, table, warn
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.intervals import Share
from groundup.evaluation.tasks.comparison import Comparison, MetricComparison
from groundup.evaluation.tasks.evaluate_task import TaskResult, evaluate_task
from groundup.evaluation.tasks.log import ITEMS, Row

METRICS = {
    "acc": "correct",
    "acc_norm": "correct, per character",
    "acc_bytes": "correct, per byte",
}
_N_MISTAKES = 3


def show_task(config: EvaluateConfig) -> None:
    """Evaluate a run on a task and print the result."""
    with ExitStack() as stack:
        lines: dict[str, Line] = {}

        def on_item(run: str, done: int, total: int) -> None:
            if run not in lines:
                stack.close()
                lines[run] = stack.enter_context(progress(f"evaluate {Path(run).name}", total))
            lines[run].update(done, f"{done:,} of {total:,} items")

        result = evaluate_task(config, on_item)
    _show_scores(result)
    for comparison in (result.comparison, result.clean_comparison):
        if comparison is not None:
            _show_comparison(comparison, is_clean=comparison is result.clean_comparison)
    _show_mistakes(result)
    if result.is_saved:
        note(f"Log of all items: {result.log / ITEMS}")
    if result.comparison is None:
        next_typed(["--shots", str(result.shots + 1 if result.shots else 5)])
    else:
        next_command(f"groundup generate {quoted(result.run)}")


def _show_scores(result: TaskResult) -> None:
    n = next(iter(result.scores.values())).n
    prompts = "chat template" if result.is_chat else "plain prompts"
    shots = f"{result.shots} example{'s' * (result.shots != 1)}"
    columns = ["", "correct", "accuracy", "95 % interval"]
    rows = [_row(METRICS[name], share) for name, share in _different(result.scores)]
    if result.contamination is not None:
        rows += [
            _row(f"{METRICS[name]}, not in training set", share)
            for name, share in _different(result.clean_scores)
        ]
    rows += [_row(name, share) for name, share in result.baselines.items()]
    if result.chance is not None:
        rows.append(["guessing", "", f"{result.chance:.1%}", ""])
    table(f"{result.task}: {n:,} items, {prompts}, {shots}", columns, rows)
    _show_cost(result)
    best = max(result.baselines.items(), key=lambda item: item[1].n_right, default=None)
    share = max(result.scores.values(), key=lambda share: share.n_right)
    if best is not None and share.n_right <= best[1].n_right:
        warn(f"The model is not better than the baseline {best[0]!r}.")
    if result.n_dropped:
        warn(f"{result.n_dropped:,} items do not fit in the context and were left out.")
    found = result.contamination
    if found is not None:
        note(
            f"{found.n_found:,} of {len(found.is_found):,} items occur in the training set "
            f"({found.n_words:,} words); {found.n_short:,} are too short to be found."
        )


def _different(scores: Mapping[str, Share]) -> list[tuple[str, Share]]:
    """The scores, without that per byte where it is that per character."""
    shown = dict(scores)
    if shown.get("acc_bytes") == shown.get("acc_norm"):
        shown.pop("acc_bytes", None)
    return list(shown.items())


def _row(name: str, share: Share) -> list[str]:
    return [name, f"{share.n_right} of {share.n}", f"{share.value:.1%}", interval(share)]


def _show_cost(result: TaskResult) -> None:
    if result.n_from_log:
        note(f"{result.n_from_log:,} items were in the log of an earlier evaluation.")
    if result.n_computed:
        saved = ""
        if result.n_computed < result.n_without_sharing:
            saved = f" ({result.n_without_sharing:,} without sharing prefixes)"
        note(f"Computed {result.n_computed:,} tokens{saved} in {result.elapsed_s:.0f} s.")


def _show_comparison(comparison: Comparison, *, is_clean: bool) -> None:
    where = ", items not in the training set" if is_clean else ""
    shown = [each for each in comparison.metrics if each.metric != "acc_bytes"]
    table(
        f"Against {comparison.other}, item by item{where}",
        ["", "this", "other", "both", "only this", "only other", "neither"],
        [
            [
                METRICS[each.metric],
                *map(str, (each.n_right_a, each.n_right_b, each.n_both)),
                *map(str, (each.test.n_only_a, each.test.n_only_b, each.n_neither)),
            ]
            for each in shown
        ],
    )
    for each in shown:
        note(f"{METRICS[each.metric].capitalize()}: {verdict(each)}")
    if comparison.n_only_one:
        warn(f"{comparison.n_only_one:,} items were given to one model only: not compared.")


def verdict(each: MetricComparison) -> str:
    """Say whether a difference is clear, with its interval and the test."""
    d = each.difference
    points = f"{100 * d.mean:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    test = f"McNemar p = {each.test.p_value:.2g}"
    if not each.is_clear:
        return f"no clear difference: {points}, {test}."
    better = "this model" if d.mean > 0 else "the other model"
    return f"{better} is better: {points}, {test}."


def _show_mistakes(result: TaskResult) -> None:
    rows = result.mistakes[:: max(1, len(result.mistakes) // _N_MISTAKES)][:_N_MISTAKES]
    if not rows:
        return
    table(
        f"{len(rows)} of {len(result.mistakes):,} mistakes",
        ["question", "expected", "answered"],
        [[shorten(row["question"], 70), *_answers(row)] for row in rows],
    )


def _answers(row: Row) -> list[str]:
    if "choices" in row:
        expected, found = row["choices"][row["answer"]], row["choices"][row["predictions"]["acc"]]
    else:
        expected, found = row["answers"][0], row["output"]
    return [shorten(expected, 30), shorten(found, 30)]
