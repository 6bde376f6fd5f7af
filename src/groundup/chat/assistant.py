"""Find who answers in a run, and open a conversation: the assistant, or the cast of plays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import has_chat_template, newest_chat
from groundup.base.run import RunFolder
from groundup.chat.answer_generator import AnswerGenerator, open_generator
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.chat.conversation import Conversation
from groundup.chat.open_cast import cast_of, open_cast
from groundup.chat.session import ChatSession
from groundup.evaluation.load import ASSISTANT_MARK, load, refuse_classifier


def find_assistant(path: Path) -> Path:
    """Find the path itself, or what was finished last in RUN by `instruct`, `prefer`, `reinforce`.

    An imported model with a chat template is an assistant, too.

    Raises:
        UserError: There is no such folder, or nothing in it was fine-tuned on instructions.
    """
    if (path / ASSISTANT_MARK).is_file():
        return path
    run = RunFolder.open(path).path
    newest = newest_chat(run)
    if newest is None and has_chat_template(run / "tokenizer"):
        return path
    if newest is None:
        raise UserError(
            "There is no assistant in this run. Fine-tune the model on instructions first.",
            where=run,
            command=f"groundup instruct {quoted(run)}",
        )
    return newest


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of an assistant before it speaks."""

    name: str
    """Its name: that of the run that it was made from."""
    prompts: tuple[str, ...] = ()
    """Prompts of its test set to try."""


def about_assistant(folder: Path) -> About:
    """Read the name of an assistant, and prompts to try, from its folder."""
    found: Any = {}
    if (folder / ASSISTANT_MARK).is_file():
        found = read_json(folder / ASSISTANT_MARK)
    prompts = found.get("prompts_to_try", []) if isinstance(found, dict) else []
    name = found.get("name") if isinstance(found, dict) else None
    return About(
        name=name if isinstance(name, str) else RunFolder.of(folder).path.resolve().name,
        prompts=tuple(prompt for prompt in prompts if isinstance(prompt, str)),
    )


@takes_settings(ChatConfig, "run")
def open_chat(config: ChatConfig) -> ChatSession | CastSession:
    """Start a conversation with the assistant of a run, or with the cast of plays.

    A model that was trained on plays answers as their characters, unless the run has an assistant
    that was fine-tuned on records of the user.

    Raises:
        UserError: There is no assistant and no cast, the run is a classifier, or there is no such
            character or no intact model.
    """
    return open_conversation(config).session


def open_conversation(config: ChatConfig) -> Conversation:
    """Start a conversation with the means to change its settings; as `open_chat`.

    Raises:
        UserError: As `open_chat`.
    """
    path = find_run(config.run, "assistant")
    refuse_classifier(RunFolder.of(path))
    cast = cast_of(path) if config.system is None else None
    if cast is not None:
        return Conversation(*open_cast(path, cast, config))
    if config.character is not None:
        raise UserError(
            "A character is named, and this is no run of a model that was trained on plays.",
            where=path,
        )
    folder = find_assistant(path)
    return Conversation(*_open_assistant(folder, config), about_assistant(folder).name)


def _open_assistant(folder: Path, config: ChatConfig) -> tuple[ChatSession, AnswerGenerator]:
    """Load an assistant."""
    language_model = load(folder)
    template = language_model.chat_template
    # Our own template is that of small models, which were trained on short answers.
    usual = 48 if template is None else 512
    generator = open_generator(language_model, config, temperature=0.0, max_new_tokens=usual)
    session = ChatSession(
        generator.ids,
        language_model.tokenizer,
        context_length=generator.context_length,
        max_new_tokens=generator.max_new_tokens,
        stop_ids=language_model.stop_ids,
        template=template,
        system=config.system,
    )
    return session, generator
