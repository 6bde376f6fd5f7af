"""Open a conversation with the cast of the plays that a run was trained on."""

from pathlib import Path
from typing import Any

from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.base.newest_run import newest_tuned
from groundup.base.run import RunFolder
from groundup.chat.cast import Cast, find_cast
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.evaluation.decoders import form_of
from groundup.evaluation.load import ASSISTANT_MARK, load
from groundup.evaluation.run_data import data_of
from groundup.evaluation.text_generation import prompt_ids, stream_text, text_engine
from groundup.finetune.instruct.identity import identity_of
from groundup.generation.request import Request, Sampling
from groundup.text.corpus import read_corpus

TEMPERATURE = 0.8
"""Sampling temperature, unless another one is set."""
_MAX_NEW_TOKENS = 96


def cast_of(path: Path) -> Cast | None:
    """Find the cast of a run that was trained on plays.

    None: the text is no play or is not there any more, the path is that of an assistant, or the
    newest assistant of the run was trained on records of the user.
    """
    run = RunFolder.of(path)
    if run.path != path or (path / ASSISTANT_MARK).is_file() or run.is_imported:
        return None
    newest = newest_tuned(path, "assistant")
    if newest is not None:
        about: Any = read_json(newest / ASSISTANT_MARK)
        if not (isinstance(about, dict) and about.get("is_synthetic")):
            return None
    try:
        documents = read_corpus(data_of(run), "train")
    except UserError:
        return None
    return find_cast(document.text for document in documents)


def open_cast(path: Path, cast: Cast, config: ChatConfig) -> CastSession:
    """Load the model of a run and start a conversation with its cast.

    Raises:
        UserError: There is no such character, or no intact model.
    """
    language_model = load(path)
    language_model.model.to(choose_device(config.device)).eval()
    engine = text_engine(language_model, form=form_of(config.dtype, config.quantize))
    T = language_model.model.config.context_length
    max_new_tokens = min(config.max_new_tokens or _MAX_NEW_TOKENS, T // 2)

    def fits(text: str) -> bool:
        return len(prompt_ids(language_model, text)) + max_new_tokens <= T

    def continued(text: str, number: int) -> str:
        sampling = Sampling(
            temperature=TEMPERATURE if config.temperature is None else config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            seed=config.seed + number,
        )
        request = Request(
            ids=prompt_ids(language_model, text),
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop_ids=language_model.stop_ids,
            stop=("\n\n",),
        )
        return "".join(stream_text(engine, request))

    n_parameters = sum(p.numel() for p in language_model.model.parameters())
    about = identity_of(path, None, n_parameters)
    facts = {record.prompt: record.output for record in about.records()}
    return CastSession(continued, cast, fits=fits, character=config.character, facts=facts)
