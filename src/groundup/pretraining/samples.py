"""Samples of a run, and other things that training can do without."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from groundup.base.errors import UserError
from groundup.generation.generate import generate
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.build import Setup

_log = logging.getLogger(__name__)

_START_TOKENS = 12


@contextmanager
def going_on(what: str) -> Iterator[None]:
    """Turn an error in the block into a warning: the model is worth more than what is missing."""
    try:
        yield
    except Exception as error:
        reason = error.located if isinstance(error, UserError) else str(error)
        _log.warning("%s is missing: %s", what, reason or type(error).__name__)


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Encode the prompt of the samples; none for an empty one.

    Raises:
        UserError: The tokenizer cannot encode it.
    """
    try:
        ids = tokenizer.encode(prompt)
    except UnicodeEncodeError as error:
        raise UserError(f"The prompt {prompt!r} is not valid text ({error.reason}).") from error
    except UserError as error:
        raise UserError(
            f"The prompt of the samples cannot be encoded. {error.message}",
            settings={"prompt": ""},
        ) from error
    if prompt and not ids:
        raise UserError(f"The prompt {prompt!r} has no tokens.", settings={"prompt": ""})
    return ids


def write_sample(setup: Setup) -> str:
    """Generate a continuation of the prompt; the text includes the prompt."""
    tokenizer, config = setup.data.tokenizer, setup.config
    ids = encode_prompt(tokenizer, config.samples.prompt)
    if not ids:
        start = setup.data.validation.read(0, min(_START_TOKENS, setup.data.validation.n_tokens))
        ids = [int(index) for index in start]
    new = generate(
        setup.model,
        ids,
        config.samples.sample_tokens,
        temperature=0.8,
        top_k=50,
        stop_ids=tuple(tokenizer.special_tokens.values()),
        seed=config.seed,
    )
    return tokenizer.decode([*ids, *new])
