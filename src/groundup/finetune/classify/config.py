"""Settings of the fine-tuned classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.kinds import Count, Device, NotNegative, Positive, Whole
from groundup.text.config import FileConfig


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(FileConfig):
    """Fine-tune the model of a run as a text classifier."""

    run: Path | None = None
    """Run folder of the model to fine-tune, or one of its checkpoints. Without it, the newest
    run in runs/."""
    out: Path | None = None
    """Folder to create. If the name is taken, -2 is added. None: RUN/classifier."""
    labels: str | Path | None = None
    """File of labeled texts (jsonl, json, csv, tsv or parquet), a folder of such files, or any
    other source. None: passages of the documents of the run, labeled by document."""
    text_column: str = "text"
    """Name of the column that contains the texts."""
    label_column: str = "label"
    """Name of the column that contains the class names."""
    data: Path | None = None
    """Data folder to cut passages from. None: the data of the run."""
    n_classes: Annotated[int, Ge(2)] = 5
    """Number of classes when the labels are made from the documents."""
    passage_characters: Count = 200
    """Minimum passage length in characters when the labels are made from the documents."""
    test_frac: Annotated[float, Gt(0), Le(0.99)] = 0.25
    """Fraction of the examples held out as the test set."""
    steps: Count = 150
    """Number of optimizer steps."""
    batch_size: Annotated[int, Ge(1), Le(65_536)] = 16
    """Number of texts per batch."""
    learning_rate: Annotated[Positive, Lt(1e35)] = 0.001
    """Peak learning rate of AdamW, for all weights."""
    weight_decay: Annotated[NotNegative, Lt(1e35)] = 0.01
    """Weight decay of the weight matrices."""
    max_tokens: Count = 128
    """Maximum number of tokens per text. Longer texts are truncated, also at the context length."""
    pooling: Literal["mean", "last"] = "mean"
    """Hidden states that the head reads: the mean over all tokens, or the last token."""
    seed: Whole = 0
    """Random seed of the train-test split and the batch order."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    threads: Count | None = None
    """Number of CPU threads. None: all cores that this process may use."""
