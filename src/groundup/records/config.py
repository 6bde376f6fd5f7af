"""Settings of the audit of a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.errors import UserError
from groundup.base.kinds import Count, Whole
from groundup.text.config import FileConfig

RowKind = Literal["labels", "conversations", "pairs", "documents"]


def check_fractions(test_frac: float, validation_frac: float, *, of: str = "") -> None:
    """Check that two sets leave something to train on.

    Raises:
        UserError: They leave too little.
    """
    if test_frac + validation_frac > 0.95:
        raise UserError(
            f"test_frac is {test_frac:g} and validation_frac is {validation_frac:g}, which leaves "
            f"less than 5 %{of} for training. Smaller fractions are expected.",
            settings={"test_frac": 0.2, "validation_frac": 0.1},
        )


@dataclass(frozen=True, kw_only=True)
class AuditConfig(FileConfig):
    """Audit a file before it is trained on."""

    file: str | Path | None = None
    """File of labeled texts, conversations, preference pairs or documents (jsonl, json, csv, tsv,
    parquet or text), or any other source. With a test file, it is the training set."""
    kind: Literal["auto", "labels", "conversations", "pairs", "documents"] = "auto"
    """What the file contains. auto: recognized from the names of its columns or fields."""
    validation: str | Path | None = None
    """File of the validation set. None: part of the file, if it is split."""
    test: str | Path | None = None
    """File of the test set. None: part of the file, if it is split."""
    split: Literal["none", "grouped", "random", "given", "book"] = "none"
    """How to split the file, to compare the sets. grouped: near duplicates are kept together;
    random: rows are drawn one by one; given: named in a column; book: as in the book."""
    split_column: str = "split"
    """Column that names the set of each row: train, validation or test."""
    text_column: str | None = None
    """Column of the texts. None: text, or one that looks like it."""
    label_column: str | None = None
    """Column of the labels. None: label, or one that looks like it."""
    test_frac: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Fraction of the rows in the test set."""
    validation_frac: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Fraction of the rows in the validation set."""
    seed: Whole = 123
    """Random seed of the split. The book uses 123. With 123, documents are split as `prepare` does
    with its own default."""
    threshold: Annotated[float, Gt(0), Le(1)] | None = None
    """Least Jaccard similarity of near duplicates. None: 0.7 for texts, 0.6 for prompts."""
    ngram_length: Annotated[int, Ge(1), Le(64)] | None = None
    """Length of the compared n-grams in characters. None: 5 for texts, 4 for prompts."""
    fold_digits: bool | None = None
    """Take all digits as equal. None: for texts, and not for prompts."""
    run: Path | None = None
    """Run whose tokenizer counts the tokens, and whose context they must fit. None: no tokens are
    counted."""
    max_tokens: Count | None = None
    """Most tokens of a row. None: the context length of the run."""
    out: Path | None = None
    """JSON file to write the audit to. If the name is taken, -2 is added. None: it is shown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fractions(self.test_frac, self.validation_frac)
