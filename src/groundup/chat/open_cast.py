"""Open a conversation with the cast of the plays that a run was trained on."""

from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.base.newest_run import newest_chat
from groundup.base.run import RunFolder
from groundup.chat.answer_generator import AnswerGenerator, open_generator
from groundup.chat.cast import Cast, find_cast
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.evaluation.load import ASSISTANT_MARK, load
from groundup.evaluation.run_data import data_of
from groundup.evaluation.text_generation import prompt_ids
from groundup.finetune.instruct.identity import identity_of
from groundup.text.corpus import read_corpus_pieces

TEMPERATURE = 0.8
"""Sampling temperature, unless another one is set."""
_MAX_NEW_TOKENS = 96


def cast_of(path: Path) -> Cast | None:
    """Find the cast of a run that was trained on plays.

    None: the text is no play or is not there any more, the path is that of an assistant, or the
    newest assistant of the run was trained on records of the user.
    """
    run = RunFolder.of(path)
    if not is_run_itself(path) or run.is_imported:
        return None
    newest = newest_chat(path)
    if newest is not None:
        about: Any = read_json(newest / ASSISTANT_MARK)
        if not (isinstance(about, dict) and about.get("is_synthetic")):
            return None
    try:
        data = data_of(run)
    except UserError:
        return None
    return cast_in(data)


def cast_in(data: Path) -> Cast | None:
    """Find the cast of the text that a data folder was made from.

    None: the text is no play, or it is not there: the token stores are enough to train.
    """
    try:
        return find_cast(piece.text for piece in read_corpus_pieces(data, "train"))
    except (UserError, OSError):
        return None


def is_run_itself(path: Path) -> bool:
    """Whether a path is that of a run, and not of a checkpoint or an assistant in it."""
    is_inside = RunFolder.of(path).path.resolve() != path.resolve()
    return not is_inside and not (path / ASSISTANT_MARK).is_file()


def open_cast(path: Path, cast: Cast, config: ChatConfig) -> tuple[CastSession, AnswerGenerator]:
    """Load the model of a run and start a conversation with its cast.

    Raises:
        UserError: There is no such character, or no intact model.
    """
    language_model = load(path)
    generator = open_generator(
        language_model, config, temperature=TEMPERATURE, max_new_tokens=_MAX_NEW_TOKENS
    )

    def count_tokens(text: str) -> int:
        return len(prompt_ids(language_model, text))

    def room() -> tuple[int, int]:
        return generator.context_length - generator.max_new_tokens, generator.context_length

    n_parameters = sum(p.numel() for p in language_model.model.parameters())
    about = identity_of(path, None, n_parameters)
    session = CastSession(
        lambda text: generator.text(prompt_ids(language_model, text), ["\n\n"]),
        cast,
        count_tokens=count_tokens,
        room=room,
        character=config.character,
        facts={record.prompt: record.output for record in about.records()},
    )
    return session, generator
