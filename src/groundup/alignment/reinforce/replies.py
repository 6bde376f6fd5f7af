"""Sample replies from a model, in batches, and give them rewards."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from groundup.alignment.reinforce.prompts import Item
from groundup.base.errors import UsageError
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import token_bytes
from groundup.generation.decoder import Decoder, Form
from groundup.generation.engine import Engine
from groundup.generation.request import Request, Sampling

Reward = Callable[[str, str, str], float]
"""Prompt, reply and answer to a number. Larger is better."""
_MOST_ROWS = 64
"""Replies that are generated at once."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote after a prompt."""

    ids: tuple[int, ...]
    """The sampled tokens, with the one that ends the reply."""
    text: str
    """The reply without its end."""
    is_complete: bool
    """Whether it ended by itself, and was not cut."""


def equals_answer(prompt: str, reply: str, answer: str) -> float:
    """Reward a reply that is exactly the answer, apart from white space around it.

    >>> equals_answer("2 + 3 =", " 5", "5"), equals_answer("2 + 3 =", "5, I think", "5")
    (1.0, 0.0)
    """
    return float(reply.strip() == answer)


def copied_frac(item: Item, reply: Reply) -> float:
    """Fraction of the words of a reply that are in its prompt, as a sign of copying."""
    words = reply.text.split()
    known = set(item.prompt.split())
    return sum(word in known for word in words) / len(words) if words else 0.0


def sample_replies(
    language_model: LanguageModel,
    items: Sequence[Item],
    n: int,
    *,
    max_new_tokens: int,
    dtype: torch.dtype,
    seed: int,
) -> list[list[Reply]]:
    """Sample `n` replies to each prompt, at temperature 1.

    The replies depend only on the weights, the prompts and the seed. Adapters are merged into the
    weights that generate.

    Args:
        language_model: The model and its tokenizer.
        items: The prompts.
        n: Number of replies to each of them.
        max_new_tokens: Maximum number of tokens of a reply.
        dtype: Number format of the matrix products.
        seed: Random seed.
    """
    # Measuring which operator is fastest could choose another one after the run is resumed.
    form: Form = "bfloat16" if dtype == torch.bfloat16 else "float32"
    decoder = Decoder(language_model.model, form=form, measure=False)
    engine = Engine(decoder, max_rows=_MOST_ROWS)
    bytes_of = token_bytes(language_model.tokenizer)
    stops = frozenset(language_model.stop_ids)

    def ends(item: Item, token: int) -> bool:
        return token in stops or (item.ends_at_newline and b"\n" in bytes_of(token))

    handles = [
        engine.submit(
            Request(
                ids=item.ids,
                max_new_tokens=max_new_tokens,
                n=n,
                # Each text of a request adds 1 to its seed.
                sampling=Sampling(seed=(seed * 1_000_003 + i * n) % 2**62),
            )
        )
        for i, item in enumerate(items)
    ]
    item_of = {id(handle): item for handle, item in zip(handles, items, strict=True)}
    while not engine.is_idle:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            sequence = event.handle.sequences[event.index]
            # Not a stop id of the request: the token that ends a reply is trained, so it is kept.
            if event.finish_reason is None and ends(item_of[id(event.handle)], sequence.tokens[-1]):
                sequence.finish("stop")
    decode = language_model.tokenizer.decode
    found = []
    for handle, item in zip(handles, items, strict=True):
        replies = []
        for sequence in handle.sequences:
            ids = tuple(sequence.tokens[len(item.ids) :])
            is_complete = ends(item, ids[-1])
            text = decode(list(ids[:-1] if ids[-1] in stops else ids))
            text = text.partition("\n")[0] if item.ends_at_newline else text
            replies.append(Reply(ids, text, is_complete))
        found.append(replies)
    return found


def reward_of(reward: Reward, item: Item, reply: Reply) -> float:
    """Compute the reward of a reply; it is 0 for one that was cut.

    Raises:
        UserError: The reward function raises an error, or does not return a finite number.
    """
    if not reply.is_complete:
        return 0.0
    about = f"for the reply {reply.text[:80]!r} to the prompt {item.prompt[-80:]!r}"
    try:
        value = reward(item.prompt, reply.text, item.answer)
    except Exception as error:
        raise UsageError(
            f"The reward function raised {type(error).__name__}: {error}, {about}. A number is "
            "expected for every reply.",
            where=item.where,
        ) from error
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(
            f"The reward function returned {value!r} {about}. A finite number is expected.",
            where=item.where,
        )
    return number
