"""What a trainer trains: a model, its optimizer, its batches, and what is done between steps."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from groundup.train.curve_checks import Finding
from groundup.train.distributed import ALONE, World
from groundup.train.loop import Batch, count_targets
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import ClockSchedule, Schedule


@runtime_checkable
class BatchLoader(Protocol):
    """An endless iterator over batches whose position can be saved."""

    def __iter__(self) -> Iterator[Batch]:
        """Iterate from the current position."""
        ...

    def __next__(self) -> Batch:
        """Return the next batch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to a saved position."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a trainer needs to know about a run."""

    model: nn.Module
    """Parameters with `requires_grad=True` are trained, and only they are in the checkpoints."""
    optimizer: Optimizer
    schedule: Schedule | ClockSchedule
    loader: BatchLoader
    loss: Callable[..., Tensor]
    """Mean loss of a batch in nats, over the units that `count` counts."""
    count: Callable[[Batch], int] = count_targets
    validate: Callable[[], float] | None = None
    """Measure the validation loss in nats. None: the last weights are the best ones."""
    first_validation: Callable[[], float] | None = None
    """The same before the first step, perhaps on less data."""
    validate_every: int | None = None
    """Steps between two validations. None: only after the last step."""
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    """Number of latest checkpoints to keep, besides the best."""
    sample: Callable[[], str] | None = None
    """Generate a text. None: no samples."""
    sample_every: int | None = None
    grad_accumulation_steps: int = 1
    max_grad_norm: float | None = None
    read_late: bool | None = False
    """See `train_steps`. None: on a GPU. The loader must not depend on the step before."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard."""
    tokenizer_fingerprint: str = ""
    """Of the data of a pretraining run."""
    identity: str = ""
    """A hash of the inputs of a fine-tuning run. A checkpoint with another identity is refused."""
    uniform_nats: float | None = None
    """The loss of a uniform prediction, at which training starts. None: the model is trained."""
    write_inputs: Callable[[], None] | None = None
    """Write what a new run keeps of its inputs, before its first validation."""
    warm_up: Callable[[], None] | None = None
    """Called before a run is initialized or restored, e.g. to compile the model."""
    check_inputs: Callable[[], Iterable[Finding]] | None = None
    """Look for problems before the first step."""
    time_for_steps: Callable[[float], float | None] | None = None
    """Given the duration of the first validation, return the seconds that a budget leaves for steps
    and the validations between them. None: no limit."""
    most_steps: int | None = None
    """Where the steps end by the clock: their highest number. None: no limit."""
    may_end_early: bool = False
    """Where the steps end by the clock: end before that when the validation loss rises."""
    warmup_frac: float = 0.0
    """Where the steps end by the clock: fraction of their time for the warmup. 0: as the schedule,
    in steps."""
    world: World = ALONE
