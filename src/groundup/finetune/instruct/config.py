"""Settings of the fine-tuned assistant."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.kinds import Count, Device, Positive, Whole
from groundup.text.config import FileConfig


@dataclass(frozen=True, kw_only=True)
class InstructConfig(FileConfig):
    """Fine-tune the model of a run to follow instructions."""

    run: Path | None = None
    """Run folder of the model to fine-tune, or one of its checkpoints. Without it, the newest
    run in runs/."""
    out: Path | None = None
    """Folder to create. If the name is taken, -2 is added. None: RUN/assistant."""
    records: str | Path | None = None
    """File of instruction records (jsonl, json, csv, tsv or parquet), a folder of such files, or
    any other source. None: synthetic records made from the documents of the run."""
    data: Path | None = None
    """Data folder for synthetic records. None: the data of the run."""
    test_per_kind: Count = 24
    """Number of synthetic test records of each kind."""
    test_frac: Annotated[float, Gt(0), Le(0.99)] = 0.1
    """Fraction of the prompts in the records file held out as the test set."""
    max_test: Count = 200
    """Maximum number of test records taken from the records file."""
    steps: Count = 400
    """Number of optimizer steps."""
    batch_size: Annotated[int, Ge(1), Le(65_536)] = 32
    """Number of conversations per batch."""
    learning_rate: Annotated[Positive, Lt(1e35)] = 0.02
    """Peak learning rate of Muon, for the weight matrices."""
    embedding_learning_rate: Annotated[Positive, Lt(1e35)] = 0.004
    """Peak learning rate of AdamW, for embeddings, gains and biases."""
    max_new_tokens: Count = 24
    """Maximum number of tokens generated per test answer."""
    seed: Whole = 0
    """Random seed of the synthetic records, the train-test split and the batch order."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    threads: Count | None = None
    """Number of CPU threads. None: all cores that this process may use."""
