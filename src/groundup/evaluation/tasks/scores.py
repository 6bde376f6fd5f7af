"""The scores of a task with their intervals, and what is reached without a model."""

from collections import Counter
from collections.abc import Mapping, Sequence

from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.task_config import TaskConfig
from groundup.evaluation.tasks.graders import grade
from groundup.evaluation.tasks.items import Item
from groundup.evaluation.tasks.log import Row


def shares(rows: Mapping[int, Row], indices: Sequence[int]) -> dict[str, Share]:
    """Count the correct items by each metric."""
    names = next(iter(rows.values()))["correct"]
    return {
        name: wilson(sum(bool(rows[i]["correct"][name]) for i in indices), len(indices))
        for name in names
    }


def chance(items: Sequence[Item]) -> float | None:
    """Compute the expected accuracy of guessing a choice; None for items without choices."""
    if not items[0].is_choice:
        return None
    return sum(1 / len(item.choices) for item in items) / len(items)


def baselines(items: Sequence[Item], task: TaskConfig) -> dict[str, Share]:
    """What needs no model: positions and lengths of choices, or the most frequent answer."""
    n = len(items)
    if items[0].is_choice:
        most = Counter(item.answer for item in items).most_common(1)[0]
        lengths = [[len(choice) for choice in item.choices] for item in items]
        pairs = list(zip(items, lengths, strict=True))
        return {
            f"always choice {most[0]}": wilson(most[1], n),
            "longest choice": wilson(sum(w.index(max(w)) == i.answer for i, w in pairs), n),
            "shortest choice": wilson(sum(w.index(min(w)) == i.answer for i, w in pairs), n),
        }
    if task.grader == "regex":  # a pattern is no answer
        return {}
    common = Counter(item.answers[0] for item in items).most_common(1)[0][0]
    return {
        "repeating the question": wilson(
            sum(grade(task.grader, item.question, item.answers) for item in items), n
        ),
        "most frequent answer": wilson(
            sum(grade(task.grader, common, item.answers) for item in items), n
        ),
    }
