"""Samples of a run: text that the model generates during training."""

from groundup.base.errors import UserError
from groundup.generation.generate import generate
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.build import Setup

_START_TOKENS = 12


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
