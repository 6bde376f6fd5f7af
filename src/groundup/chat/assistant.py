"""Find who answers in a run, and open a conversation: the assistant, or the cast of plays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import has_chat_template, newest_tuned
from groundup.base.run import RunFolder
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.chat.open_cast import cast_of, open_cast
from groundup.chat.session import ChatSession
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.load import ASSISTANT_MARK, load
from groundup.generation.engine import Engine
from groundup.generation.generate import stream


def find_assistant(path: Path) -> Path:
    """Find the newest complete one of RUN/assistant, RUN/assistant-2, ..., or the path itself.

    An imported model with a chat template is one, too.

    Raises:
        UserError: There is no such folder, or nothing in it was fine-tuned on instructions.
    """
    if (path / ASSISTANT_MARK).is_file():
        return path
    run = RunFolder.open(path).path
    newest = newest_tuned(run, "assistant")
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
        UserError: There is no assistant and no cast, no such character, or no intact model.
    """
    path = find_run(config.run, "assistant")
    cast = cast_of(path) if config.system is None else None
    if cast is not None:
        return open_cast(path, cast, config)
    if config.character is not None:
        raise UserError(
            "A character is named, and this is no run of a model that was trained on plays.",
            where=path,
        )
    return _open_assistant(find_assistant(path), config)


def _open_assistant(folder: Path, config: ChatConfig) -> ChatSession:
    """Load an assistant. An answer is never longer than half of the context."""
    language_model = load(folder)
    model = language_model.model.to(choose_device(config.device)).eval()
    # What was read of the conversation is kept, so that only the new question is read.
    form = form_of(config.dtype, config.quantize)
    engine = Engine(decoder_of(model, language_model.path, form=form), n_kept_rows=1)
    usual = 48 if language_model.is_assistant else 512
    n_asked = 0

    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        nonlocal n_asked
        n_asked += 1
        # Each answer has its own seed; otherwise a repeated question always got the same answer.
        return stream(
            engine,
            ids,
            max_new_tokens,
            temperature=config.temperature or 0.0,
            top_k=config.top_k,
            top_p=config.top_p,
            seed=config.seed + n_asked,
        )

    return ChatSession(
        speak,
        language_model.tokenizer,
        context_length=model.config.context_length,
        max_new_tokens=min(config.max_new_tokens or usual, model.config.context_length // 2),
        stop_ids=language_model.stop_ids,
        template=language_model.chat_template,
        system=config.system,
    )
