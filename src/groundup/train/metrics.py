"""The metrics of a training step, and the lines of metrics.jsonl that hold them."""

import json
from typing import Any

from groundup.base.files import write_text
from groundup.base.run import RunFolder
from groundup.train.step import Step

MEASURED = (
    "loss_nats",
    "learning_rate",
    "grad_norm",
    "n_targets",
    "targets_per_s",
    "elapsed_s",
)
"""What every line of metrics.jsonl contains, beside the step."""


def log_metrics(run: RunFolder, step: Step) -> dict[str, Any]:
    """Append the step to metrics.jsonl and return the line."""
    return run.log_metrics(
        step=step.step,
        loss_nats=step.loss_nats,
        validation_loss_nats=step.validation_loss_nats,
        learning_rate=step.learning_rate,
        grad_norm=step.grad_norm,
        weight=step.weight,
        n_targets=step.n_targets,
        targets_per_s=round(step.targets_per_s, 1),
        waited_s=round(step.waited_s, 6),
        memory_bytes=step.memory_bytes,
        elapsed_s=round(step.elapsed_s, 3),
    )


def read_metrics(run: RunFolder) -> list[dict[str, Any]]:
    """Read the metrics of all steps; corrupt or incomplete lines are skipped."""
    return run.read_metrics(MEASURED)


def corrupt_lines(run: RunFolder) -> list[int]:
    """List the numbers of corrupt or incomplete lines, except a last one that was cut off."""
    return run.corrupt_metrics(MEASURED)


def drop_metrics_after(run: RunFolder, step: int) -> None:
    """Remove the lines of the steps that a resumed run will repeat."""
    if run.metrics_path.is_file():
        kept = [row for row in read_metrics(run) if row["step"] <= step]
        write_text(run.metrics_path, "".join(json.dumps(row) + "\n" for row in kept))
