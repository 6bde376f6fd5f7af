"""What a training step reports."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did."""

    step: int
    """Number of steps done, including this one."""
    n_steps: int
    """Steps of the run; under a time budget, the current estimate."""
    loss_nats: float
    """Mean loss per target of this batch, before the update."""
    learning_rate: float
    """Learning rate of the matrices in this step."""
    grad_norm: float
    """Gradient norm, before clipping."""
    weight_before: float
    """One weight of the model before the update; the same one at every step."""
    weight: float
    """That weight after the update."""
    n_targets: int
    """Targets trained on since the first step of the run."""
    targets_per_s: float
    """Targets per second in this step, without validation and checkpoints."""
    waited_s: float
    """Seconds of this step spent waiting for the loader."""
    elapsed_s: float
    """Seconds since the start of the run, summed over all sessions."""
    eta_s: float
    """Estimated seconds left, at the mean speed of this session."""
    memory_bytes: int
    """Memory of the process, or of the GPU, after this step."""
    validation_loss_nats: float | None = None
    """Mean loss on the validation set, at the steps where it was measured."""
    next_has_begun: bool = False
    """A GPU already computes the next step: the weights are no longer those after this one."""

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.learning_rate

    @property
    def tokens_per_s(self) -> float:
        """Targets per second."""
        return self.targets_per_s
