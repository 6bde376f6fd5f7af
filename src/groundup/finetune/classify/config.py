"""Settings of the classifier. This file loads no torch, for `--help`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.errors import UserError
from groundup.base.fields import changed_settings, refuse_unused
from groundup.base.kinds import Count, Device, FreeText, Positive
from groundup.finetune.config import TRAINING, BatchSize, FineTuneConfig
from groundup.model.lora_config import LoRAConfig
from groundup.records.config import check_fractions
from groundup.text.config import FileConfig

Balance = Literal["none", "weighted", "undersampled"]
Method = Literal["frozen", "last", "lora", "all"]
_OF_TUNING = {
    *("budget", "epochs", "steps", "batch_size", "learning_rate", "weight_decay", "warmup_frac"),
    *("max_grad_norm", "validate_every", "checkpoint_every", "keep_checkpoints", "pooling"),
    *("grad_accumulation_steps", "activation_checkpointing", "tensorboard"),
}
"""Settings that only tuned recipes use."""
_OF_LORA = {f"lora_{name}" for name in ("rank", "alpha", "dropout", "targets", "variant")}


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(FineTuneConfig):
    """Train a text classifier on the model of a run, and compare it with baselines."""

    out: Path | None = None
    """Folder to create. If the name is taken, -2 is added. None: RUN/classifier."""
    labels: str | Path | None = None
    """File of labeled texts (jsonl, json, csv, tsv or parquet), a folder of such files, or any
    other source. None: passages of the documents of the run, labeled by document."""
    test: str | Path | None = None
    """File of labeled texts for the test set. None: a part of `labels`."""
    validation: str | Path | None = None
    """File of labeled texts for the validation set. None: a part of `labels`."""
    text_column: str | None = None
    """Name of the column that contains the texts. None: text, or one that looks like it."""
    label_column: str | None = None
    """Name of the column that contains the labels. None: label, or one that looks like it."""
    split_column: str | None = None
    """Name of the column that puts each row into train, validation or test. None: rows are
    drawn."""
    split: Literal["grouped", "random", "book"] = "grouped"
    """How rows are drawn. grouped: near duplicates stay in the same set. random: one by one. book:
    70 : 10 : 20 of undersampled classes, as in chapter 6 of the book."""
    test_frac: Annotated[float, Gt(0), Le(0.9)] = 0.2
    """Fraction of the texts in the test set."""
    validation_frac: Annotated[float, Ge(0), Le(0.9)] = 0.1
    """Fraction of the texts in the validation set, which calibrates the probabilities."""
    near_duplicate: Annotated[float, Gt(0), Le(1)] = 0.7
    """Texts are near duplicates if the Jaccard similarity of their character 5-grams reaches
    this."""
    balance: Balance = "none"
    """Classes of different sizes. none: as they are. weighted: every class has the same weight in
    the loss. undersampled: as many training texts of each class as of the smallest. The last two
    make rare classes more probable than they are."""
    data: Path | None = None
    """Data folder to cut passages from. None: the data of the run."""
    n_classes: Annotated[int, Ge(2)] = 5
    """Number of classes when the labels are made from the documents."""
    passage_characters: Count = 200
    """Minimum passage length in characters when the labels are made from the documents."""
    method: Method = "frozen"
    """What is trained. frozen: only logistic regression on the hidden states. last: the last blocks
    too. lora: LoRA adapters too. all: all weights. frozen is always measured, for comparison."""
    last_blocks: Count = 6
    """Number of blocks that method "last" trains."""
    logistic_c: Annotated[Positive, Lt(1e35)] = 0.1
    """C of the logistic regression on the hidden states: a smaller value regularizes more."""
    max_tokens: Count = 512
    """Maximum number of tokens per text. Longer texts are truncated, also at the context length."""
    pooling: Literal["mean", "last", "mean+last"] = "mean"
    """Hidden states that the head of a tuned model reads: the mean over all tokens, the last token,
    or both. frozen reads both."""
    epochs: Annotated[Positive | None, TRAINING] = 3.0
    """Number of passes over the training set, if `steps` is not set. frozen has none."""
    batch_size: Annotated[BatchSize, TRAINING] = 16
    """Number of texts per optimizer step."""
    weight_decay: Annotated[float, Ge(0), Lt(1e35), TRAINING] = 0.01
    """Weight decay of the weight matrices."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    """Settings of the LoRA adapters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fractions(self.test_frac, self.validation_frac, of=" of the texts")
        changed = sorted(changed_settings(self) & self._unused())
        if changed:
            name = changed[0]
            method = "last" if name == "last_blocks" else "lora" if "lora" in name else "all"
            raise UserError(
                f"{name} is set, and method {self.method!r} does not use it.",
                settings={"method": method},
            )
        if self.split_column is not None and (self.test or self.validation):
            raise UserError(
                "split_column is set, and so is a file of test or validation texts. Only one of "
                "them is expected: the column names the part of each row.",
                settings={"split_column": None},
            )
        if self.labels is None:
            needs = ("test", "validation", "split_column", "text_column", "label_column")
            given = next((name for name in needs if getattr(self, name) is not None), None)
            if given is not None:
                raise UserError(
                    f"{given} is set, but labels is not. A file of labeled texts is expected."
                )
        else:
            why = "{name} is set, but labels is set, so no passages are cut."
            refuse_unused(self, ("n_classes", "passage_characters", "data"), why)
        if self.split == "book":
            why = '{name} is set, but split is "book", which has its own fractions.'
            refuse_unused(self, ("test_frac", "validation_frac"), why)

    def _unused(self) -> set[str]:
        """The settings that the method ignores."""
        names = set() if self.method == "lora" else set(_OF_LORA)
        names |= set() if self.method == "last" else {"last_blocks"}
        return names | (_OF_TUNING if self.method == "frozen" else set())


@dataclass(frozen=True, kw_only=True)
class PredictConfig(FileConfig):
    """Classify texts with a trained classifier."""

    run: Path | None = None
    """Run folder with a classifier, or the folder of a classifier. Without it, the newest run with
    a classifier in runs/."""
    text: FreeText = None
    """Text to classify."""
    file: str | Path | None = None
    """File of texts (jsonl, json, csv, tsv or parquet), or - for lines from standard input. None,
    without a text: standard input."""
    text_column: str | None = None
    """Name of the column that contains the texts. None: text, or the only one that holds texts."""
    out: Path | None = None
    """File to write: the rows of `file` with the predicted label and the probabilities. None: a
    file beside it in the working directory; texts from standard input are printed."""
    json: bool = False
    """Print one JSON object per text."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    threads: Count | None = None
    """Number of CPU threads. None: all cores that this process may use."""
    chunk_size: Annotated[int, Ge(1), Le(1_000_000)] = 1000
    """Number of rows of a file that are classified at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None and self.file is not None:
            raise UserError("Both text and file are set. One of them is expected.")
        if self.text is not None and self.out is not None:
            raise UserError(
                "Both text and out are set. Only the rows of a file are written to a file.",
                settings={"out": None},
            )
        if self.json and (self.out is not None or self.file not in (None, "-")):
            raise UserError(
                "json is for a single text and for standard input. The rows of a file are "
                "written to a file; one with the suffix .jsonl has one JSON object per row.",
                settings={"json": False, "out": "predicted.jsonl"},
            )
