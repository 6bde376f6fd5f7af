"""The prompts of the page: a conversation, a scene of a play, or a text to continue, as ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from groundup.chat.cast import Cast, speech
from groundup.evaluation.text_generation import prompt_ids
from groundup.serve.errors import ApiError
from groundup.serve.served_model import ServedModel
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message

END_OF_SPEECH = "\n\n"
"""A blank line ends a speech of a play."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A message of a person, or an answer as the ids that were generated."""

    role: Literal["user", "assistant"]
    text: str = ""
    ids: Sequence[int] = ()


def chat_prompt(served: ServedModel, turns: Sequence[Turn]) -> list[int]:
    """Encode a conversation up to where the next answer begins.

    The ids of answers are kept as they were generated, unless the chat template changes their text.

    Raises:
        UserError: The chat template refuses the messages.
        ApiError: An answer has an id that is not in the vocabulary.
    """
    tokenizer = served.tokenizer
    written = [
        Message(turn.role, turn.text if turn.role == "user" else answer_text(served, turn))
        for turn in turns
    ]
    ids, mask = render_ids(written, tokenizer, served.model.chat_template)
    prompt, _ = render_ids(
        written, tokenizer, served.model.chat_template, add_generation_prompt=True
    )
    answers = [_without_end(served, turn.ids) for turn in turns if turn.role == "assistant"]
    at, parts = 0, []
    for counts, group in groupby(mask):
        n = len(list(group))
        parts.append((counts, ids[at : at + n]))
        at += n
    n_parts = sum(counts for counts, _ in parts)
    if prompt[: len(ids)] != ids or n_parts != len(answers):
        return prompt
    remaining = iter(answers)
    kept: list[int] = []
    for counts, part in parts:
        kept += _replaced(served, part, next(remaining)) if counts else part
    return kept + prompt[len(ids) :]


def cast_prompt(
    served: ServedModel, cast: Cast, turns: Sequence[Turn], character: str | None
) -> list[int]:
    """Encode a scene up to where the speech of a character begins.

    Raises:
        UserError: There is no such character.
        ApiError: An answer has an id that is not in the vocabulary.
    """
    cue = cast.cue(character)
    you = cast.partners[cue]
    scene = ""
    for turn in turns:
        if turn.role == "user":
            scene += speech(you, turn.text.strip())
        else:
            scene += speech(cue, answer_text(served, turn).strip())
    return prompt_ids(served.model, f"{scene}{cue}\n")


def answer_text(served: ServedModel, turn: Turn) -> str:
    """Decode an answer, without control tokens.

    Raises:
        ApiError: An id is not in the vocabulary.
    """
    hidden = set(served.tokenizer.special_tokens.values())
    V = served.tokenizer.vocab_size
    if outside := [i for i in turn.ids if not 0 <= i < V]:
        raise ApiError(
            f"An answer has the token id {outside[0]}. Expected ids below {V:,}.", param="turns"
        )
    raw = b"".join(served.token_bytes(i) for i in turn.ids if i not in hidden)
    text = raw.decode(errors="replace")
    return text.removeprefix(" ") if served.answers_begin_with_space else text


def _without_end(served: ServedModel, ids: Sequence[int]) -> list[int]:
    last = len(ids)
    while last and ids[last - 1] in served.model.stop_ids:
        last -= 1
    return list(ids[:last])


def _replaced(served: ServedModel, part: list[int], answer: list[int]) -> list[int]:
    """Put the ids that were generated in the place of those of the same text."""
    special = set(served.tokenizer.special_tokens.values())
    n = next((i for i, index in enumerate(part) if index in special), len(part))
    decode = served.tokenizer.decode
    if special.isdisjoint(answer) and decode(part[:n]) == decode(answer):
        return answer + part[n:]
    return part
