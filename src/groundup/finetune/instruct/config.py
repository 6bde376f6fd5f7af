"""Settings of the fine-tuned assistant."""

import math
from dataclasses import dataclass
from pathlib import Path

from groundup.base.config import HUGE, TINY, Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class InstructConfig:
    """Fine-tune the model of a run to follow instructions."""

    run: Path = Path("runs/pretrain")
    """Run folder of the model to fine-tune; the assistant is written to RUN/assistant."""
    records: Path | None = None
    """File of instruction records (.json or .jsonl); None generates synthetic records from the
    run's documents."""
    data: Path | None = None
    """Data folder for synthetic records; None uses the one that the run was trained on."""
    test_per_kind: int = 24
    """Number of synthetic test records of each kind."""
    test_frac: float = 0.1
    """Fraction of the prompts in the records file held out as the test set."""
    max_test: int = 200
    """Maximum number of test records taken from the records file."""
    steps: int = 400
    """Number of optimizer steps."""
    batch_size: int = 32
    """Number of conversations per batch."""
    learning_rate: float = 0.02
    """Peak learning rate of Muon, for the weight matrices."""
    table_learning_rate: float = 0.004
    """Peak learning rate of AdamW, for embeddings, gains and biases."""
    max_new_tokens: int = 24
    """Maximum number of tokens generated per test answer."""
    seed: int = 0
    """Random seed of the synthetic records, the train-test split and the batch order."""
    device: str = "auto"
    """Device to train on: auto, cpu or cuda."""
    threads: int | None = None
    """Number of CPU threads; None uses all cores."""

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)


_RANGES: tuple[Range, ...] = (
    ("test_per_kind", 1, math.inf),
    ("test_frac", TINY, 0.99),
    ("max_test", 1, math.inf),
    ("steps", 1, math.inf),
    ("batch_size", 1, math.inf),
    ("learning_rate", TINY, HUGE),
    ("table_learning_rate", TINY, HUGE),
    ("max_new_tokens", 1, math.inf),
    ("seed", 0, math.inf),
    ("threads", 1, math.inf),
)
