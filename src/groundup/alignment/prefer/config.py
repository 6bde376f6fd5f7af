"""Settings of preference tuning. This file loads no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.errors import UserError
from groundup.base.fields import refuse_unused
from groundup.base.kinds import Count, NotNegative, Positive, Whole
from groundup.finetune.config import TRAINING, FineTuneConfig
from groundup.model.lora_config import LoRAConfig

LossName = Literal["sigmoid", "robust", "ipo", "sigmoid_norm"]


@dataclass(frozen=True, kw_only=True)
class PreferConfig(FineTuneConfig):
    """Tune an assistant on pairs of a chosen and a rejected answer."""

    records: str | Path | None = None
    """File of preference pairs (jsonl, json, csv, tsv or parquet), a folder of such files, or any
    other source. Columns: chosen and rejected, with instruction and input, or prompt."""
    skip_invalid: bool = False
    """Leave out records that are not valid pairs, instead of refusing the file."""
    split_column: str | None = None
    """Column that names the set of each pair: train, validation or test. None: see split."""
    split: Literal["grouped", "random", "in-order"] = "grouped"
    """How the test set is chosen. grouped: near duplicates of a prompt stay in one set. in-order:
    the first pairs train, the next ones test, and the last ones validate."""
    test_frac: Annotated[float, Gt(0), Le(0.9)] = 0.1
    """Fraction of the pairs in the test set."""
    validation_frac: Annotated[float, Gt(0), Le(0.9)] = 0.05
    """Fraction of the pairs in the validation set, which decides what the best step is."""
    folds: Annotated[int, Ge(2), Le(100)] | None = None
    """Test on all pairs by cross-validation: train this many models, and then the final one on all
    but the validation set. None: one split."""
    loss: LossName = "sigmoid"
    """Loss, named as in trl. sigmoid: DPO. robust: DPO for labels that are partly wrong. ipo: IPO.
    sigmoid_norm: DPO with log-probabilities per token."""
    beta: Positive = 0.1
    """Strength of the pull toward the model before training."""
    label_smoothing: Annotated[float, Ge(0), Lt(0.5)] = 0.0
    """Probability that a pair is labeled the wrong way round (sigmoid and robust only)."""
    sft_weight: Annotated[NotNegative, Lt(1e35)] = 0.0
    """Weight of the loss of the chosen answers in nats/token, which is added. It keeps them from
    becoming less likely."""
    max_answer_tokens: Count | None = None
    """Cut each answer after this many tokens. None: answers are not cut, and pairs that are longer
    than the context are left out."""
    method: Literal["lora", "all"] = "lora"
    """Train LoRA adapters, which are merged at the end, or all weights."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    learning_rate: Annotated[Positive, Lt(1e35), TRAINING] = 1e-4
    """Peak learning rate."""
    n_samples: Whole = 3
    """Number of test prompts that are answered before and after training."""
    max_new_tokens: Count = 64
    """Maximum number of tokens of these answers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test_frac + self.validation_frac >= 1:
            raise UserError(
                f"test_frac is {self.test_frac} and validation_frac {self.validation_frac}, which "
                "leaves no pairs for training. A sum below 1 is expected.",
                settings={"test_frac": 0.1, "validation_frac": 0.05},
            )
        if self.folds is not None and (self.budget or self.split_column):
            other = "budget" if self.budget else "split_column"
            raise UserError(
                f"Cross-validation (folds) trains several models on sets of its own, so {other} "
                "cannot be set, too.",
                settings={"folds": None},
            )
        if self.folds is not None:
            refuse_unused(
                self,
                ("split", "test_frac"),
                "Cross-validation (folds) tests on all pairs, and keeps near duplicates of a "
                "prompt in one fold, so {name} does not apply.",
            )
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise UserError(
                f"The loss {self.loss} has no label smoothing. sigmoid or robust is expected.",
                settings={"loss": "robust"},
            )
