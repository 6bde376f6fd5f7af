"""Settings of the fine-tuned classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.config import HUGE, TINY, Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """Fine-tune the model of a run as a text classifier."""

    run: Path = Path("runs/pretrain")
    """Run folder of the model to fine-tune; the classifier is written to RUN/classifier."""
    labels: Path | None = None
    """File of labeled texts (.tsv, .csv or .jsonl); None uses passages of the run's documents,
    labeled by document."""
    text_column: str = "text"
    """Name of the column that contains the texts."""
    label_column: str = "label"
    """Name of the column that contains the class names."""
    data: Path | None = None
    """Data folder to cut passages from; None uses the one that the run was trained on."""
    n_classes: int = 5
    """Number of classes when the labels are made from the documents."""
    passage_characters: int = 200
    """Minimum passage length in characters when the labels are made from the documents."""
    test_frac: float = 0.25
    """Fraction of the examples held out as the test set."""
    steps: int = 150
    """Number of optimizer steps."""
    batch_size: int = 16
    """Number of texts per batch."""
    learning_rate: float = 0.001
    """Peak learning rate of AdamW, for all weights."""
    weight_decay: float = 0.01
    """Weight decay of the weight matrices."""
    max_tokens: int = 128
    """Maximum number of tokens per text; longer texts are truncated, also at the context length."""
    pooling: Literal["mean", "last"] = "mean"
    """Hidden states that the head reads: the mean over all tokens, or the last token."""
    seed: int = 0
    """Random seed of the train-test split and the batch order."""
    device: str = "auto"
    """Device to train on: auto, cpu or cuda."""
    threads: int | None = None
    """Number of CPU threads; None uses all cores."""

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)


_RANGES: tuple[Range, ...] = (
    ("n_classes", 2, math.inf),
    ("passage_characters", 1, math.inf),
    ("test_frac", TINY, 0.99),
    ("steps", 1, math.inf),
    ("batch_size", 1, math.inf),
    ("learning_rate", TINY, HUGE),
    ("weight_decay", 0, HUGE),
    ("max_tokens", 1, math.inf),
    ("seed", 0, math.inf),
    ("threads", 1, math.inf),
)
