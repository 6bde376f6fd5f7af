"""`groundup pretrain`: a progress line, samples, and the first steps in detail."""

import math
import time
from collections.abc import Set

from groundup.base.errors import quoted
from groundup.cli.console import Line, next_command, note, progress, span, table
from groundup.pretraining.curve_checks import Finding
from groundup.pretraining.pretrain import pretrain
from groundup.pretraining.report import PretrainResult
from groundup.train.config import PretrainConfig
from groundup.train.loop import Step

_FIRST_STEPS = 3


def run(config: PretrainConfig, given: Set[str] = frozenset()) -> PretrainResult:
    """Train a model and print its progress."""
    with progress("pretrain", config.steps) as line:
        view = _View(line)
        if config.budget is not None:
            line.say(f"Choosing a model for {config.budget} on this machine ...")
        result = pretrain(
            config, view.step, view.sample, view.finding, view.choice, _process_started_at(), given
        )
    table(
        "First steps",
        ["step", "loss, nats", "gradient norm", "one weight before", "after"],
        view.first_rows,
    )
    # Perplexity is the exponential of the loss.
    before, after = result.first_validation_loss_nats, result.validation_loss_nats
    table(
        "Validation",
        ["", "validation loss, nats", "perplexity"],
        [
            ["before the first step", f"{before:.3f}", f"{math.exp(before):,.1f}"],
            [f"best, at step {result.best_step:,}", f"{after:.3f}", f"{math.exp(after):,.1f}"],
        ],
    )
    if result.best_step < result.steps:
        note("After that step the model was overfitting; other commands open the best checkpoint.")
    note(
        f"{result.n_parameters:,} parameters, {result.n_targets:,} targets in "
        f"{result.elapsed_s:.0f} s ({result.tokens_per_s:,.0f} per second). "
        f"The run folder is {result.run}/"
    )
    next_command(f"groundup evaluate {quoted(result.run)}")
    return result


def _process_started_at() -> float:
    """When this process started, by `time.monotonic()`: a budget includes the time of imports."""
    import psutil

    started_at: float = psutil.Process().create_time()
    return time.monotonic() - (time.time() - started_at)


def _short(count: float | int) -> str:
    """Write a count in three digits.

    >>> _short(950), _short(13_749), _short(2.04e6)
    ('950', '13.7k', '2.04M')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"


class _View:
    """The progress line and the tables of a run."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.first_rows: list[list[str]] = []
        self._validation = "-"

    def step(self, step: Step) -> None:
        """Update the line; keep the first steps for the table."""
        if not self.first_rows and step.step > 1:
            self.line.say(f"Resuming from the checkpoint of step {step.step - 1}.")
        if len(self.first_rows) < _FIRST_STEPS:
            self.first_rows.append(
                [
                    str(step.step),
                    f"{step.loss_nats:.4f}",
                    f"{step.grad_norm:.3f}",
                    f"{step.weight_before:+.6f}",
                    f"{step.weight:+.6f}",
                ]
            )
        if step.validation_loss_nats is not None:
            self._validation = f"{step.validation_loss_nats:.3f}"
        self.line.total = step.n_steps  # under a budget, the current estimate
        self.line.update(
            step.step,
            f"{step.step}/{step.n_steps}",
            f"{_short(step.n_targets)} tokens",
            f"loss {step.loss_nats:.3f}",
            f"val {self._validation}",
            f"lr {step.learning_rate:.2g}",
            f"{_short(step.targets_per_s)}/s",
            f"eta {span(step.eta_s)}",
            f"{step.memory_bytes / 1e6:.0f}MB",
        )

    def sample(self, step: int, text: str) -> None:
        """Print a text that the model generated."""
        self.line.say(f"\nSample at step {step}:\n{text}\n")

    def choice(self, config: PretrainConfig) -> None:
        """Print the settings that a budget chose."""
        model = config.model
        self.line.say(
            f"{model.n_layers} layers, model width {model.d_model}, batches of {config.batch_size} "
            f"x {model.context_length} tokens, about {config.steps:,} steps."
        )

    def finding(self, finding: Finding) -> None:
        """Print a failed check above the line."""
        self.line.warn(f"{finding.rule}: {finding}")
