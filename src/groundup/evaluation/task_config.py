"""The settings of an evaluation on a task. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from groundup.base.fields import Config
from groundup.base.kinds import Count, Whole
from groundup.text.formats import AnyFormat

Grader = Literal["exact", "ignore-case", "number", "contains", "regex"]


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Config):
    """How to evaluate a model on a task."""

    task: Path | None = None
    """File of items: questions with choices, or questions with answers (JSON lines, JSON, CSV, TSV
    or Parquet). None: measure the loss on the validation set."""
    format: AnyFormat = "auto"
    """Format of the file. auto: recognized from the content and the name together."""
    encoding: str = "utf-8"
    """Encoding of the file."""
    against: Path | None = None
    """Another run, or the log folder of an evaluation of the same task, to compare with item by
    item."""
    shots: Whole = 0
    """Number of solved examples before each question."""
    examples: Path | None = None
    """File of items to take the examples from. None: other items of the task."""
    prompt: str | None = None
    """Prompt of an item, with the names of its fields in braces. None: the question, and without a
    chat template 'Answer:' on a new line."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """chat: write questions and examples with the chat template of the model; plain: as one text.
    auto: chat for an assistant that was fine-tuned here."""
    grader: Grader = "exact"
    """How generated answers are graded: equal to an answer (exact, ignore-case), with the same
    number, contains an answer, or matches an answer that is a regular expression."""
    max_new_tokens: Count = 64
    """Maximum length of a generated answer, in tokens."""
    stop: tuple[str, ...] = ()
    """Text that ends a generated answer. Several may be given. Empty: a new line, and with a chat
    template the end of the turn only."""
    limit: Count | None = None
    """Number of items to evaluate, the first ones of the file. None: all."""
    overlong: Literal["error", "drop"] = "error"
    """What to do with items that do not fit in the context: refuse the task, or leave them out and
    count them."""
    prefix_caching: bool = True
    """Compute what prompts have in common once. The results are the same up to rounding."""
    contamination: bool = False
    """Search for the items in the training set of the data, and score the others separately."""
    ngram: Annotated[int, Ge(2), Le(200)] = 13
    """Number of consecutive words that an item and the training set must have in common."""
    task_seed: Whole = 0
    """Random seed of the choice of examples."""
