"""`groundup pretrain`: one moving line, a sample now and then, and what the first steps did."""

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
    """Train a model with everything in view."""
    with progress("pretrain", config.steps) as line:
        view = _View(line)
        if config.budget is not None:
            line.say(f"Trying what {config.budget} on this machine are best spent on ...")
        result = pretrain(
            config, view.step, view.sample, view.finding, view.choice, _process_began_at(), given
        )
    table(
        "The parameters move",
        ["step", "loss, nats", "length of the gradient", "one weight, before", "after"],
        view.first_rows,
    )
    # How many tokens the model hesitates between: the loss, said in another way.
    before, after = result.first_validation_loss_nats, result.validation_loss_nats
    table(
        "Held-out text",
        ["", "validation loss, nats", "perplexity"],
        [
            ["before the first step", f"{before:.3f}", f"{math.exp(before):,.1f}"],
            [f"best, at step {result.best_step:,}", f"{after:.3f}", f"{math.exp(after):,.1f}"],
        ],
    )
    if result.best_step < result.steps:
        note(
            "After that step the model only learnt its training text by heart; "
            "the best checkpoint is the one that is opened."
        )
    note(
        f"{result.n_parameters:,} parameters, {result.n_targets:,} targets in "
        f"{result.elapsed_s:.0f} s ({result.tokens_per_s:,.0f} a second). "
        f"Everything is in {result.run}/"
    )
    next_command(f"groundup evaluate {quoted(result.run)}")
    return result


def _process_began_at() -> float:
    """When this process began, by `time.monotonic()`: a budget counts what loading takes."""
    import psutil

    began_at: float = psutil.Process().create_time()
    return time.monotonic() - (time.time() - began_at)


def _short(count: float | int) -> str:
    """A count in three digits.

    >>> _short(950), _short(13_749), _short(2.04e6)
    ('950', '13.7k', '2.04M')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"


class _View:
    """What the eye follows while training runs."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.first_rows: list[list[str]] = []
        self._validation = "-"

    def step(self, step: Step) -> None:
        """Move the line; keep the first steps for the table."""
        if not self.first_rows and step.step > 1:
            self.line.say(f"Going on after step {step.step - 1}, from the checkpoint there.")
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
        self.line.total = step.n_steps  # under a budget, as expected now
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
        """Show what the model writes."""
        self.line.say(f"\nstep {step} writes: {text!r}\n")

    def choice(self, config: PretrainConfig) -> None:
        """Say what a budget has led to."""
        model = config.model
        self.line.say(
            f"{model.n_layers} layers, {model.d_model} wide, batches of {config.batch_size} x "
            f"{model.context_length} tokens, about {config.steps:,} steps."
        )

    def finding(self, finding: Finding) -> None:
        """Say what the watch saw, above the line."""
        self.line.warn(f"{finding.rule}: {finding}")
