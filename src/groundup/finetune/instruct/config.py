"""Settings of the fine-tuned assistant. This file loads no torch, for `--help`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.errors import UserError
from groundup.base.fields import refuse_unused
from groundup.base.kinds import Count, Mark, NotNegative, Positive, Whole
from groundup.finetune.config import TRAINING, BatchSize, FineTuneConfig, Rate
from groundup.model.lora_config import LoRAConfig

LORA_ABOVE = 20_000_000
"""With more parameters than this, the method "auto" is LoRA."""
SYNTHETIC_RECORDS = 12_800
"""Number of synthetic training records, unless `steps` is given."""


_OF_RECORDS = (
    *("epochs", "layout", "max_test", "overlong", "skip_invalid", "split", "split_column"),
    "test_frac",
)
"""Settings that only records of a file have."""


@dataclass(frozen=True, kw_only=True)
class InstructConfig(FineTuneConfig):
    """Fine-tune the model of a run to follow instructions."""

    out: Path | None = None
    """Folder to create. An unfinished run with the same settings is resumed; otherwise -2 is
    added. None: RUN/assistant."""
    records: str | Path | None = None
    """File of instruction records (jsonl, json, csv, tsv or parquet), a folder of such files, or
    any other source. The layouts of Alpaca, messages, ShareGPT and prompt-completion are
    recognized. None: synthetic records made from the documents of the run."""
    layout: Literal["auto", "alpaca", "messages", "sharegpt", "prompt-completion"] = "auto"
    """Fields of the records. auto: recognized from their names."""
    skip_invalid: bool = False
    """Leave out records that are not valid conversations, instead of refusing the file."""
    data: Path | None = None
    """Data folder for synthetic records and for mixing. None: the data of the run."""
    show: Annotated[Count, Mark.NO_COST] | None = None
    """Print each token of this many records with whether it is trained, and stop."""
    overlong: Literal["drop", "error", "split-turns"] = "drop"
    """What to do with a record that is longer than the context: leave it out, refuse it, or divide
    it between two turns. An answer is never cut."""
    split: Literal["grouped", "random", "in-order"] = "grouped"
    """How to choose the test set. grouped: prompts that are near duplicates stay together; random:
    by chance; in-order: the first 85 % of the file for training, then 10 % for testing and 5 %
    for validation, as in the book."""
    split_column: str | None = None
    """Field that names the set of each record: train, validation or test. None: see `split`."""
    test_frac: Annotated[float, Gt(0), Le(0.99)] = 0.1
    """Fraction of the records in the test set."""
    max_test: Count = 200
    """Maximum number of test records."""
    folds: Annotated[int, Ge(2), Le(100)] | None = None
    """Test every record once by cross-validation: this many further trainings, each tested on the
    fold that it did not train on. None: one training, tested on the test set."""
    test_per_kind: Count = 24
    """Number of synthetic test records of each kind."""
    method: Literal["auto", "lora", "all"] = "auto"
    """Train low-rank adapters, which are merged into the weights at the end, or all weights. auto:
    lora for models of more than 20 million parameters."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    """Settings of the adapters."""
    batch_size: Annotated[BatchSize | None, TRAINING] = None  # type: ignore[assignment]
    """Number of conversations per optimizer step. None: 16, and 32 for small models."""
    learning_rate: Annotated[Rate | None, TRAINING] = None  # type: ignore[assignment]
    """Peak learning rate. None: 0.001 with LoRA, 0.00005 without it, and 0.02 (Muon, for the weight
    matrices) for small models."""
    embedding_learning_rate: Annotated[Positive, Lt(1e35)] = 0.004
    """Peak learning rate of embeddings, gains and biases of small models."""
    neftune_alpha: Annotated[NotNegative, Lt(1e35)] = 0.0
    """Scale of the noise that is added to the embeddings in training (NEFTune), e.g. 5. 0: none."""
    mix_frac: Annotated[float, Ge(0), Le(0.9)] = 0.0
    """Fraction of the training rows that are plain text of the data, against forgetting."""
    max_new_tokens: Count | None = None
    """Maximum number of tokens generated per test answer. None: 64, and 24 for synthetic
    records."""
    shots: Whole = 3
    """Number of training examples in the prompt of the few-shot baseline. 0: leave it out."""
    baselines: bool = True
    """Compare with answers that cost no training: the untuned model, the input, and others."""

    def resolved(self, n_parameters: int) -> "InstructConfig":
        """Return the settings for a model of this size, without None where a number is needed."""
        is_large = n_parameters > LORA_ABOVE
        method = self.method
        if method == "auto":
            method = "lora" if is_large else "all"
        rate = {"lora": 1e-3, "all": 5e-5 if is_large else 0.02}[method]
        batch_size = self.batch_size or (16 if is_large else 32)
        # A small model is not faster in bfloat16.
        dtype = "fp32" if self.dtype == "auto" and not is_large else self.dtype
        resolved = replace(
            self,
            method=method,
            dtype=dtype,
            batch_size=batch_size,
            learning_rate=self.learning_rate or rate,
            max_new_tokens=self.max_new_tokens or (24 if self.records is None else 64),
        )
        if self.records is None and self.steps is None:
            # Each synthetic record is seen once.
            resolved = replace(resolved, steps=-(-SYNTHETIC_RECORDS // batch_size))
        return resolved

    def __post_init__(self) -> None:
        if self.batch_size is None:  # the settings that depend on it are checked when it is known
            super(FineTuneConfig, self).__post_init__()
        else:
            super().__post_init__()
        if self.folds is not None and self.budget is not None:
            raise UserError(
                "Cross-validation (folds) trains several models, so budget does not apply.",
                settings={"budget": None},
            )
        if self.folds is not None and self.split_column is not None:
            raise UserError(
                "Cross-validation (folds) makes sets of its own, so split_column does not apply.",
                settings={"split_column": None},
            )
        if self.records is None:
            refuse_unused(
                self,
                _OF_RECORDS,
                "{name} is set, and there is no file of records (records): synthetic records do "
                "not use it.",
            )
        if self.folds is not None and self.records is None:
            raise UserError(
                "Folds need a file of records (records): synthetic records have a test set of "
                "their own.",
                settings={"folds": None},
            )
