"""The progress of a training run on the screen."""

from groundup.base.duration import span
from groundup.cli.console import Line, passage, style
from groundup.train.config import PretrainConfig
from groundup.train.curve_checks import Finding
from groundup.train.step import Step

_FIRST_STEPS = 3


class TrainingView:
    """What is printed while a model is trained: the progress line, samples, failed checks."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.first_rows: list[list[str]] = []
        """The first steps, as rows of a table."""
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
            f"{step.memory_bytes / 1e6:.0f} MB",
        )

    def sample(self, step: int, text: str) -> None:
        """Print a text that the model generated."""
        self.line.say(f"\nSample at step {step}:")
        passage(text)
        if not style.is_brief:
            self.line.say("")

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


def _short(count: float | int) -> str:
    """Write a count in three digits.

    >>> _short(950), _short(13_749), _short(2.04e6)
    ('950', '13.7k', '2.04M')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"
