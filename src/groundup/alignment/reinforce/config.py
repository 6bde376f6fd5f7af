"""The settings of `reinforce`. This file loads no torch, for `--help`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le, Lt

from groundup.base.errors import UserError
from groundup.base.fields import changed_settings
from groundup.base.kinds import Count, Fraction, NotNegative, Positive, Section
from groundup.finetune.config import TRAINING, FineTuneConfig
from groundup.model.lora_config import LoRAConfig

_TASK, _GRPO = Section("Task"), Section("GRPO")


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(FineTuneConfig):
    """Train a model on rewards of its own replies, with GRPO and LoRA adapters."""

    prompts: Annotated[str | Path | None, _TASK] = None
    """File of prompts and their answers, in the formats of `instruct`. The reward is 1 for a reply
    that equals the answer, otherwise 0. None: additions."""
    max_number: Annotated[int, Ge(1), Le(100_000), _TASK] = 20
    """Largest number in an addition. Larger ones lower the reward before training."""
    shots: Annotated[int, Ge(0), Le(16), _TASK] = 3
    """Number of solved additions before the one to solve."""
    max_new_tokens: Annotated[int, Ge(1), Le(4096), _TASK] = 8
    """Maximum number of tokens of a reply. Longer ones are cut, and get the reward of a cut
    reply: 0."""
    test_items: Annotated[Count, _TASK] = 100
    """Number of prompts in the test set. No training prompt has the same numbers or text."""
    test_samples: Annotated[Count, _TASK] = 4
    """Number of replies per test prompt."""
    least_start: Annotated[Fraction, _TASK] = 0.1
    """Lowest mean reward before training. Below it, too few groups have good and bad
    replies."""
    most_start: Annotated[Fraction, _TASK] = 0.6
    """Highest mean reward before training."""
    steps: Annotated[Count | None, TRAINING] = 40
    """Number of optimizer steps. None: from `epochs`."""
    batch_size: Annotated[int, Ge(1), Le(4096), TRAINING] = 8
    """Number of prompts per optimizer step."""
    group_size: Annotated[int, Ge(2), Le(1024), _GRPO] = 8
    """Number of replies per prompt, which are compared with each other."""
    learning_rate: Annotated[Positive, Lt(1e35), TRAINING] = 5e-4
    """Peak learning rate of the adapters."""
    kl_weight: Annotated[NotNegative, Lt(1e35), _GRPO] = 0.0
    """Weight of the KL divergence from the model before training. 0: it is not computed."""
    divide_by_std: Annotated[bool, _GRPO] = False
    """Divide advantages by the standard deviation of the rewards in their group, as GRPO was
    published. It gives prompts that are nearly always or nearly never solved more weight."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    """The adapters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and "epochs" in changed_settings(self):
            raise UserError(
                f"epochs is set, and so is the number of steps ({self.steps}). With steps=None, "
                "epochs decides.",
                settings={"steps": None},
            )
        if self.least_start > self.most_start:
            raise UserError(
                f"least_start is {self.least_start:g}, above most_start, which is "
                f"{self.most_start:g}.",
                settings={"least_start": self.most_start},
            )
