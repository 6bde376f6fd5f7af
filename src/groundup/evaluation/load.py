"""Open a trained model together with its tokenizer."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.model.gpt import GPT
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.checkpoint_format import open_model

ASSISTANT_MARK = "assistant.json"
"""A file that `instruct` writes after the model: a folder that has it is a complete assistant."""


@dataclass(frozen=True)
class LanguageModel:
    """A model and its tokenizer."""

    model: GPT
    tokenizer: Tokenizer
    path: Path
    """The folder the weights were read from."""


def load(path: Path | str) -> LanguageModel:
    """Open a run, one of its checkpoints, or the folder of a classifier or an assistant.

    Of a run the checkpoint with the best validation loss is taken (the text file `checkpoints/best`
    names it), or else the latest. Where one is damaged, a warning names it and the next is tried.

    Raises:
        UserError: There is no model, or none that is intact, or it does not fit the tokenizer.
    """
    folder, model = open_model(path)
    run = RunFolder.of(path)
    if not run.tokenizer.is_dir():
        raise UserError(
            "There is no tokenizer for this model. A folder `tokenizer` is expected in the run.",
            where=run.path,
        )
    tokenizer = load_tokenizer(run.tokenizer)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"The vocabulary of the model has {model.config.vocab_size} tokens, that of its "
            f"tokenizer {tokenizer.vocab_size}. The tokenizer that it was trained with is "
            "expected.",
            where=run.tokenizer,
        )
    model.eval()
    return LanguageModel(model=model, tokenizer=tokenizer, path=folder)
