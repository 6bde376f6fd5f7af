"""Open a trained model together with its tokenizer, from whatever folder the user points at."""

import logging
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.run import list_checkpoints
from groundup.model.gpt import GPT
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.checkpoint_format import load_model

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LanguageModel:
    """A model that knows its own alphabet."""

    model: GPT
    tokenizer: Tokenizer
    path: Path
    """The folder the weights were read from."""


def load(path: Path | str) -> LanguageModel:
    """Open a run, one of its checkpoints, its classifier's or assistant's folder.

    Of a run the checkpoint with the best validation loss is taken (the text file `checkpoints/best`
    names it), else the latest. A damaged one is named in the log and the one before it is used.

    Raises:
        UserError: There is no model here, or none that is whole, or it does not fit the tokenizer.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(
            "there is no such folder",
            need="a run made by `groundup pretrain`",
            where=folder,
            type_this="ls runs",
        )
    if (folder / "model.safetensors").is_file():
        candidates = [folder]
    else:
        candidates = _checkpoints(folder / "checkpoints")
    if not candidates:
        raise UserError(
            "this folder holds no trained model",
            need="a run with checkpoints/, or a checkpoint with model.safetensors",
            where=folder,
            type_this="groundup pretrain",
        )
    tokenizer = load_tokenizer(_tokenizer_folder(folder))
    for candidate in candidates:
        try:
            model = load_model(candidate)
        except UserError as error:
            if candidate is candidates[-1]:
                raise
            _log.warning("%s; the checkpoint before it is used", error)
            continue
        if model.config.vocab_size != tokenizer.vocab_size:
            raise UserError(
                f"the model has {model.config.vocab_size} tokens, its tokenizer "
                f"{tokenizer.vocab_size}",
                need="the tokenizer it was trained with",
                where=folder,
            )
        model.eval()
        return LanguageModel(model=model, tokenizer=tokenizer, path=candidate)
    raise AssertionError("the last candidate is returned or refused")


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in the order to try them: the best, the latest, then backwards."""
    found = list_checkpoints(folder)
    named = [
        folder / (folder / name).read_text(encoding="utf-8", errors="replace").strip()
        for name in ("best", "latest")
        if (folder / name).is_file()
    ]
    return list(dict.fromkeys(one for one in [*named, *found] if one.is_dir()))


def _tokenizer_folder(folder: Path) -> Path:
    """The tokenizer of the folder itself, or of the run its checkpoint belongs to."""
    for place in (folder, *folder.resolve().parents[:2]):
        if (place / "tokenizer").is_dir():
            return place / "tokenizer"
    raise UserError(
        "no tokenizer stands beside this model", need="a folder named tokenizer", where=folder
    )
