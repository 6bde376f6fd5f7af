"""A run that diverged: the step, what is NaN or infinite, and what helps."""

import math
from collections.abc import Mapping

from groundup.base.errors import UserError
from groundup.train.optimizer import Optimizer


class DivergedError(UserError):
    """The loss, a gradient or the weights are NaN or infinite.

    Args:
        step: The step at which it was noticed.
        message: What was found and what is expected.
        settings: Settings that help.
    """

    def __init__(self, step: int, message: str, settings: Mapping[str, object]) -> None:
        super().__init__(message, settings=settings)
        self.step = step


def diverged(
    step: int,
    optimizer: Optimizer,
    rate: float,
    peak_frac: float,
    *,
    loss_nats: float | None = None,
    grad_norm: float | None = None,
) -> DivergedError:
    """Describe a divergence: the step, what is NaN or infinite, and what helps.

    Args:
        step: The step at which it was noticed.
        optimizer: Holds the parameters.
        rate: The learning rate of the matrices in that step.
        peak_frac: The highest rate of the run, as a fraction of the full rate.
        loss_nats: The loss of its batch.
        grad_norm: The gradient norm of the batch.
    """
    if loss_nats is None or grad_norm is None:
        found = f"After step {step} the weights or the validation loss are NaN or infinite."
    else:
        found = f"At step {step} the loss is {loss_nats} and the gradient norm is {grad_norm}. "
        if not optimizer.weights_are_finite():
            found += "Some weights are NaN or infinite: an earlier update was too large."
        elif math.isfinite(loss_nats):
            found += "The loss is finite, but its gradient is not."
        else:
            found += "The weights are finite, so the activations overflowed."
    peak = optimizer.learning_rate * peak_frac
    return DivergedError(
        step,
        f"{found} Use a learning rate below {rate:.3g}, or clip the gradients.",
        {"learning_rate": float(f"{peak / 3:.2g}"), "max_grad_norm": 1.0},
    )
