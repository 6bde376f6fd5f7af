"""Compare two models on the same items of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.errors import UsageError, UserError
from groundup.evaluation.paired import (
    Difference,
    McNemar,
    mcnemar,
    paired_bootstrap,
    require_items,
)
from groundup.evaluation.tasks.log import Row

SAME = ("task", "items", "limit", "prompt", "shots", "examples", "task_seed", "grader", "stop",
        "max_new_tokens")  # fmt: skip
"""The settings that two evaluations must share to be comparable."""
_CLEAR = 0.05


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """Two models by one metric."""

    metric: str
    n: int
    n_right_a: int
    n_right_b: int
    difference: Difference
    """Accuracy of the first model minus that of the second, with a paired bootstrap interval."""
    test: McNemar

    @property
    def n_both(self) -> int:
        """Number of items that both models have right."""
        return self.n_right_a - self.test.n_only_a

    @property
    def n_neither(self) -> int:
        """Number of items that both models have wrong."""
        return self.n - self.n_both - self.test.n_only_a - self.test.n_only_b

    @property
    def is_clear(self) -> bool:
        """Whether the exact McNemar test finds a difference at the 5 % level."""
        return self.test.p_value < _CLEAR


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same items."""

    other: str
    """The second model."""
    metrics: tuple[MetricComparison, ...]
    n_only_one: int
    """Number of items that only one of the models could be given; they are not compared."""


def compare_rows(
    other: str,
    a: Mapping[int, Row],
    b: Mapping[int, Row],
    *,
    only: Sequence[int] | None = None,
) -> Comparison:
    """Compare two logs item by item.

    Args:
        other: The second model, in words.
        a: The rows of the first model.
        b: The rows of the second model.
        only: The indices to compare. None: all.

    Raises:
        UsageError: Fewer than 30 items are in both.
    """
    both = [index for index in sorted(a.keys() & b.keys()) if only is None or index in set(only)]
    try:
        require_items(len(both), "items that both models were given")
    except UserError as error:
        raise UsageError(error.message) from error
    metrics = []
    for metric in a[both[0]]["correct"]:
        right_a = [bool(a[index]["correct"][metric]) for index in both]
        right_b = [bool(b[index]["correct"][metric]) for index in both]
        metrics.append(
            MetricComparison(
                metric=metric,
                n=len(both),
                n_right_a=sum(right_a),
                n_right_b=sum(right_b),
                difference=paired_bootstrap(right_a, right_b),
                test=mcnemar(right_a, right_b),
            )
        )
    return Comparison(other=other, metrics=tuple(metrics), n_only_one=len(a.keys() ^ b.keys()))


def check_same_task(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: Path) -> None:
    """Check that two evaluations are of the same items, written in the same way.

    Raises:
        UsageError: They are not.
    """
    for name in SAME:
        if ours.get(name) == theirs.get(name):
            continue
        if name == "items":
            raise UsageError(
                "This evaluation is of other items, or of another version of the task. An "
                "evaluation of the same items is expected.",
                where=where,
            )
        if name != "task":
            raise UsageError(
                f"This evaluation has {name} {theirs.get(name)!r}, and here it is "
                f"{ours.get(name)!r}. An evaluation with the same settings is expected.",
                where=where,
            )
