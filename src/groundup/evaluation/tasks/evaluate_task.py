"""Evaluate a model on a task, beside what needs no model, and compare it with another model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.errors import UsageError
from groundup.base.folder_kinds import find_run
from groundup.base.results import record_if_possible
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.intervals import Share
from groundup.evaluation.tasks.comparison import Comparison, check_same_task, compare_rows
from groundup.evaluation.tasks.contamination import Contamination
from groundup.evaluation.tasks.evaluated import OnItem, enough, evaluated
from groundup.evaluation.tasks.items import Item, read_items
from groundup.evaluation.tasks.log import RESULT, Row, is_log, read_log
from groundup.evaluation.tasks.scores import baselines, chance, shares


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """How well a model does on a task."""

    task: str
    run: Path
    log: Path
    """The folder with the log of the items."""
    is_saved: bool
    """Whether the log is on disk."""
    is_choice: bool
    is_chat: bool
    """Whether prompts were written with a chat template."""
    shots: int
    scores: dict[str, Share]
    """By metric: acc; with choices also acc_norm (per character) and acc_bytes (per byte)."""
    baselines: dict[str, Share]
    """What needs no model, on the same items."""
    chance: float | None
    """The expected accuracy of guessing a choice."""
    n_dropped: int
    """Number of items that do not fit in the context and were left out."""
    n_from_log: int
    """Number of items that were in the log already."""
    n_computed: int
    """Number of tokens computed now."""
    n_without_sharing: int
    """Number of tokens that would be computed without sharing prefixes."""
    elapsed_s: float
    contamination: Contamination | None
    clean_scores: dict[str, Share]
    """The scores on the items that do not occur in the training set, if that was checked."""
    comparison: Comparison | None
    clean_comparison: Comparison | None
    mistakes: tuple[Row, ...]
    """The rows of items that are wrong by the first metric."""


@takes_settings(EvaluateConfig, "run")
def evaluate_task(config: EvaluateConfig, on_item: OnItem | None = None) -> TaskResult:
    """Evaluate a model on the items of a file.

    The rows of the items are written to RUN/evaluation/tasks/ as they are computed. An evaluation
    that was interrupted continues there, and one that is complete is read.

    Raises:
        UsageError: The task or a setting is not valid, an item does not fit in the context, or
            there are fewer than 30 items.
        UserError: There is no model.
    """
    task = config.tasks
    if task.task is None:
        raise UsageError("There is no task. A file of items is expected.")
    items = read_items(task.task, task)[: task.limit]
    enough(len(items), "items")
    examples = None if task.examples is None else read_items(task.examples, task)
    other = task.against
    if other is not None and not is_log(other):
        other = find_run(other)
    pool = items if examples is None else examples
    ours = evaluated(config, items, pool, on_item)
    found = ours.contamination
    clean = None
    if found is not None:
        clean = [index for index in ours.rows if not found.is_found[index]]
    comparison = clean_comparison = None
    if other is not None:
        rows = _rows_of(other, config, ours.settings, items, pool, on_item)
        comparison = compare_rows(str(other), ours.rows, rows)
        if clean is not None and len(clean) >= 30 and len(clean) < len(ours.rows):
            clean_comparison = compare_rows(str(other), ours.rows, rows, only=clean)
    answered = [items[index] for index in sorted(ours.rows)]
    result = TaskResult(
        task=task.task.name,
        run=ours.run,
        log=ours.log.path,
        is_saved=ours.log.is_saved,
        is_choice=items[0].is_choice,
        is_chat=ours.is_chat,
        shots=task.shots,
        scores=shares(ours.rows, sorted(ours.rows)),
        baselines=baselines(answered, task),
        chance=chance(answered),
        n_dropped=len(items) - len(ours.rows),
        n_from_log=ours.n_from_log,
        n_computed=ours.n_computed,
        n_without_sharing=ours.n_without_sharing,
        elapsed_s=ours.elapsed_s,
        contamination=found,
        clean_scores={} if not clean else shares(ours.rows, clean),
        comparison=comparison,
        clean_comparison=clean_comparison,
        mistakes=tuple(row for _, row in sorted(ours.rows.items()) if not row["correct"]["acc"]),
    )
    if ours.log.is_saved:
        record_if_possible(ours.log.path / RESULT, replace(result, mistakes=()))
    return result


def _rows_of(
    other: Path,
    config: EvaluateConfig,
    settings: dict[str, Any],
    items: Sequence[Item],
    pool: Sequence[Item],
    on_item: OnItem | None,
) -> dict[int, Row]:
    """The rows of the model to compare with, from its log or computed now."""
    if is_log(other):
        theirs, rows = read_log(other)
        check_same_task(settings, theirs, other)
        return rows
    tasks = replace(config.tasks, against=None, contamination=False)
    return evaluated(replace(config, run=other, tasks=tasks), items, pool, on_item).rows
