"""What the folder of a run records of its settings, whichever command trained it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.config import from_mapping
from groundup.base.errors import quoted
from groundup.base.run import RunFolder
from groundup.train.config import PretrainConfig

_MADE_BY = {"labels.json": "classify", "assistant.json": "instruct"}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The settings that checks and comparisons need."""

    command: str
    """The command that trained it, such as pretrain."""
    values: dict[str, Any]
    """All settings, as config.toml holds them."""
    pretraining: PretrainConfig | None
    """The settings of a pretraining run. None: it is a fine-tuning run."""

    @classmethod
    def of(cls, run: RunFolder) -> "Recorded":
        """Read config.toml and manifest.json.

        Raises:
            UserError: There is no config.toml, or it is not one of ours.
        """
        values = run.read_config()
        if "run" in values or ("learning_rate" in values and "model" not in values):
            return cls(command=_command_of(run), values=values, pretraining=None)
        settings = from_mapping(PretrainConfig, values, where=str(run.config_path))
        return cls(command="pretrain", values=values, pretraining=settings)

    @property
    def is_fine_tuning(self) -> bool:
        """Whether the run starts from the model of another run."""
        return self.pretraining is None

    @property
    def trains_steps(self) -> bool:
        """Whether the run makes optimizer steps; a classifier of method frozen makes none."""
        return self.command != "classify" or self.values.get("method", "frozen") != "frozen"

    @property
    def uniform_nats(self) -> float | None:
        """ln V of a pretraining run."""
        return None if self.pretraining is None else math.log(self.pretraining.model.vocab_size)

    @property
    def learning_rate(self) -> float:
        """The peak learning rate."""
        if self.pretraining is not None:
            return self.pretraining.optimizer.learning_rate
        return float(self.values.get("learning_rate", 0.0))

    @property
    def checkpoint_every(self) -> int | None:
        """Steps between two checkpoints. None: the run chose it itself, and it is not recorded."""
        if self.pretraining is not None:
            return self.pretraining.checkpoints.checkpoint_every
        every = self.values.get("checkpoint_every")
        return every if isinstance(every, int) else None

    def again(self, config: Path) -> str:
        """Return the command that trains with the same settings again."""
        return f"groundup {self.command} --config {quoted(config)}"


def _command_of(run: RunFolder) -> str:
    recorded = run.read_manifest().get("verb")
    if isinstance(recorded, str):
        return recorded
    found = (verb for mark, verb in _MADE_BY.items() if (run.path / mark).is_file())
    return next(found, "classify" if run.path.name.startswith("classifier") else "instruct")
