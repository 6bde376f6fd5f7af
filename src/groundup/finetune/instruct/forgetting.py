"""Forgetting: how well the model still predicts plain text after fine-tuning."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.loss import evaluate_loss
from groundup.evaluation.run_data import data_of
from groundup.model.gpt import GPT
from groundup.text.builtin import BUILTIN_NAME, python_reference
from groundup.text.corpus import corpus_file, read_corpus_pieces
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.precision import MixedPrecision

_CHARACTERS = 16_000
_CONTEXT = 512
_BATCH_TOKENS = 4096
_APART = "\n\n"
"""Between two documents."""


@dataclass(frozen=True, kw_only=True)
class PlainText:
    """A text that the records do not come from."""

    name: str
    """Where it is from, for a sentence."""
    text: str

    def bits_per_byte(self, model: GPT, tokenizer: Tokenizer, dtype: torch.dtype) -> float:
        """Measure how well a model predicts the text, in a number format."""
        ids = np.array(tokenizer.encode(self.text), dtype=np.int64)
        length = min(_CONTEXT, model.config.context_length)
        loss = evaluate_loss(
            model,
            ArrayTokens(ids),
            loss=MixedPrecision(model, dtype),
            context_length=length,
            batch_size=max(1, _BATCH_TOKENS // length),
            tokenizer=tokenizer,
        )
        assert loss.bits_per_byte is not None
        return loss.bits_per_byte


def plain_text(run: Path) -> PlainText:
    """Choose the text: the validation set of the run, or else Python's language reference."""
    try:
        data = data_of(RunFolder.of(run))
    except UserError:
        data = None
    if data is not None and corpus_file(data, "validation").is_file():
        pieces = read_corpus_pieces(data, "validation")
        if found := _first(f"{piece.text}{_APART * piece.is_last}" for piece in pieces):
            return PlainText(name="the validation set of the run", text=found)
    documents = (f"{document.text}{_APART}" for document in python_reference())
    return PlainText(name=f"Python's language reference ({BUILTIN_NAME})", text=_first(documents))


def _first(texts: Iterable[str]) -> str:
    text = ""
    for each in islice(texts, 1000):
        text += each
        if len(text) >= _CHARACTERS:
            break
    return text[:_CHARACTERS]
