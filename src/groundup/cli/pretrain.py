"""`groundup pretrain`: a progress line, samples, and the first steps in detail."""

import math
from collections.abc import Set

from groundup.base.errors import quoted
from groundup.base.machine import started_at
from groundup.cli.console import next_command, note, progress, style, table
from groundup.cli.training_view import TrainingView
from groundup.pretraining.pretrain import pretrain
from groundup.pretraining.report import PretrainResult
from groundup.train.config import PretrainConfig


def run(config: PretrainConfig, given: Set[str] = frozenset()) -> PretrainResult:
    """Train a model and print its progress."""
    began_at = started_at()  # a budget includes the time of imports
    with progress("pretrain", config.steps) as line:
        view = TrainingView(line)
        if config.budget is not None:
            line.say(f"Choosing a model for {config.budget} on this machine ...")
        result = pretrain(
            config, view.step, view.sample, view.finding, view.choice, began_at, given
        )
    # Perplexity is the exponential of the loss.
    before, after = result.first_validation_loss_nats, result.validation_loss_nats
    if style.is_brief:
        note(
            f"Validation loss: {before:.3f} nats/token before training, {after:.3f} at step "
            f"{result.best_step:,}."
        )
    else:
        table(
            "First steps",
            ["step", "loss, nats", "gradient norm", "weight before", "weight after"],
            view.first_rows,
        )
        table(
            "Validation",
            ["", "validation loss, nats", "perplexity"],
            [
                ["before the first step", f"{before:.3f}", f"{math.exp(before):,.1f}"],
                [f"best, at step {result.best_step:,}", f"{after:.3f}", f"{math.exp(after):,.1f}"],
            ],
        )
    if result.early_end:
        note(result.early_end)
    if result.overfits:
        note("After that step the model was overfitting; other commands open the best checkpoint.")
    note(
        f"{result.n_parameters:,} parameters, {result.n_targets:,} targets in "
        f"{result.elapsed_s:.0f} s ({result.tokens_per_s:,.0f} per second). "
        f"The run folder is {result.run}/"
    )
    next_command(f"groundup evaluate {quoted(result.run)}")
    return result
