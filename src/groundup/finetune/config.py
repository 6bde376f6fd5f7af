"""The settings that every fine-tuning command shares. This file loads no torch, for `--help`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt

from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError
from groundup.base.kinds import Count, Device, Mark, NotNegative, Positive, Section, Whole
from groundup.text.config import FileConfig

TRAINING, HARDWARE = Section("Training"), Section("Hardware")
_Float32 = Lt(1e35)
"""Larger numbers overflow in the products that they are part of."""
Rate = Annotated[Positive, _Float32]
BatchSize = Annotated[int, Ge(1), Le(65_536)]


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig(FileConfig):
    """Fine-tune the model of a run."""

    run: Path | None = None
    """Run folder of the model to fine-tune, or one of its checkpoints. Without it, the newest
    run in runs/."""
    out: Path | None = None
    """Folder to create. An unfinished run with the same settings is resumed; otherwise -2 is
    added. None: a folder inside the run."""
    budget: str | None = None
    """Maximum time for the whole command, e.g. 90s, 10m or 2h, including the tests at the end.
    None: as long as the steps take."""
    epochs: Annotated[Positive | None, TRAINING] = 1.0
    """Number of passes over the training set, if `steps` is not set."""
    steps: Annotated[Count | None, TRAINING] = None
    """Number of optimizer steps. None: from `epochs`."""
    batch_size: Annotated[BatchSize, TRAINING] = 8
    """Number of examples per optimizer step."""
    learning_rate: Annotated[Rate, TRAINING] = 1e-4
    """Peak learning rate."""
    weight_decay: Annotated[NotNegative, _Float32, TRAINING] = 0.0
    """Weight decay of the weight matrices."""
    warmup_frac: Annotated[float, Ge(0), Le(0.9), TRAINING] = 0.1
    """Fraction of the steps in which the learning rate rises to its peak."""
    max_grad_norm: Annotated[Rate | None, TRAINING] = 1.0
    """Clip the gradient norm to this value. None: no clipping."""
    validate_every: Annotated[Count | None, TRAINING] = None
    """Steps between two validations. None: about eight times in the run."""
    checkpoint_every: Annotated[Count | None, TRAINING] = None
    """Steps between two checkpoints. None: about eight times in the run."""
    keep_checkpoints: Annotated[Count, TRAINING] = 1
    """Number of latest checkpoints to keep, besides the best."""
    dtype: Annotated[Literal["auto", "fp32", "bf16"], HARDWARE] = "auto"
    """Number format of the matrix products. auto: bf16 if the hardware supports it, else fp32."""
    grad_accumulation_steps: Annotated[Count, TRAINING] = 1
    """Number of parts that a batch is split into to save memory. The result stays the same."""
    activation_checkpointing: Annotated[bool, TRAINING] = False
    """Save memory by computing the activations of a layer again in the backward pass."""
    tensorboard: Annotated[bool, Mark.NO_COST, TRAINING] = False
    """Also write the metrics for TensorBoard. Needs the extra `tensorboard`."""
    plan_only: Annotated[bool, Mark.NO_COST] = False
    """Print the cost of the run and stop before training."""
    seed: Whole = 0
    """Random seed of the splits, the new weights and the order of the batches."""
    device: Annotated[Device, HARDWARE] = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    threads: Annotated[Count | None, HARDWARE] = None
    """Number of CPU threads. None: all cores that this process may use."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grad_accumulation_steps > self.batch_size:
            raise UserError(
                f"A batch of {self.batch_size} examples cannot be split into "
                f"{self.grad_accumulation_steps} parts.",
                settings={"grad_accumulation_steps": self.batch_size},
            )
        if self.budget is not None:
            parse_duration_s(self.budget, "budget")
        if self.steps is None and self.epochs is None:
            raise UserError(
                "Neither epochs nor steps is set. One of them is expected.",
                settings={"epochs": 1.0},
            )

    def n_steps(self, n_rows: int) -> int:
        """Return the number of optimizer steps of a run on this many training rows.

        >>> FineTuneConfig(batch_size=8).n_steps(20), FineTuneConfig(steps=5).n_steps(20)
        (3, 5)
        """
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, -int(-self.epochs * n_rows // self.batch_size))
