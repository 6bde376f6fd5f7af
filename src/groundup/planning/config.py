"""The settings of `groundup plan`. No torch, for `--help`."""

from dataclasses import dataclass
from typing import Annotated

from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError
from groundup.base.kinds import Mark, Positive, Section
from groundup.train.config import PretrainConfig

_PLAN = Section("Plan")


@dataclass(frozen=True, kw_only=True)
class PlanConfig(PretrainConfig):
    """Settings of a run whose cost is estimated: those of pretraining, and how to estimate."""

    train_time: Annotated[str | None, Mark.NO_COST, _PLAN] = None
    """Choose the number of steps so that training takes about this long, e.g. 10m.
    None: as many steps as set."""
    max_passes: Annotated[Positive, Mark.NO_COST, _PLAN] = 40.0
    """With train_time: limit of passes over the text. More passes overfit."""
    probe_s: Annotated[Positive, Mark.NO_COST, _PLAN] = 4.0
    """Seconds for measuring the speed with real steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_time is None:
            return
        parse_duration_s(self.train_time, "train_time")
        if self.budget is not None:
            raise UserError(
                "train_time and budget both set the time of the run. Set one of them.",
                settings={"train_time": None},
            )
