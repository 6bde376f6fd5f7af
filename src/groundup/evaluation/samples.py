"""Samples of a model: texts that are generated together, and how likely choices are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import choice_probabilities, continued_ids, token_bytes
from groundup.generation.engine import Engine, Handle
from groundup.generation.request import Request, Sampling
from groundup.generation.sampler import Token


@dataclass(frozen=True, kw_only=True)
class SampledToken:
    """One token of a sample, with log-probabilities before temperature, penalties and cuts."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]
    """The most likely tokens, the sampled one among them."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One generated text."""

    setting: str
    """How it was sampled, in words."""
    text: str
    """The continuation, without the prompt."""
    finish_reason: str
    """stop: at the end of a text, a stop string or a complete choice; length: after
    max_new_tokens."""
    tokens: tuple[SampledToken, ...] = ()
    """The tokens, if log-probabilities were asked for."""
    longest_recited: str | None
    """The longest passage that occurs in the training text. None: it was not checked."""
    recited_frac: float | None
    """Share of the text in copied passages. None: it was not checked."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the choices."""

    text: str
    probability: float
    """Probability of this text, given that it is one of the choices."""


def generated(
    language_model: LanguageModel,
    engine: Engine,
    requests: list[Request],
    describe: Callable[[Sampling, int], str],
    on_text: Callable[[str, str], None] | None = None,
) -> list[Sample]:
    """Generate all texts of some requests together.

    Args:
        language_model: The model with its tokenizer.
        engine: An engine for it.
        requests: What is asked.
        describe: Says how a text is sampled, from the settings and its number.
        on_text: Called with the description and the next piece of the first text.

    Raises:
        UserError: A token cannot be drawn.
    """
    handles = [engine.submit(request) for request in requests]
    keys = [(handle, index) for handle in handles for index in range(handle.request.n)]
    texts: dict[tuple[Handle, int], str] = dict.fromkeys(keys, "")
    tokens: dict[tuple[Handle, int], list[Token]] = {key: [] for key in keys}
    reasons: dict[tuple[Handle, int], str] = {}
    while not engine.is_idle:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            key = event.handle, event.index
            texts[key] += event.text
            tokens[key] += event.tokens
            if event.finish_reason is not None:
                reasons[key] = event.finish_reason
            if on_text is not None and key == keys[0]:
                on_text(describe(event.handle.request.sampling, 0), event.text)
    return [
        Sample(
            setting=describe(key[0].request.sampling, key[1]),
            text=texts[key],
            finish_reason=reasons[key],
            tokens=_sampled_tokens(language_model, tokens[key]),
            longest_recited=None,
            recited_frac=None,
        )
        for key in keys
    ]


def compared(
    language_model: LanguageModel, engine: Engine, ids: list[int], choices: Sequence[str]
) -> tuple[Choice, ...]:
    """Compute the probabilities of the choices."""
    if not choices:
        return ()
    encoded = [continued_ids(language_model.tokenizer, choice) for choice in choices]
    room = engine.decoder.config.context_length - max(map(len, encoded))
    shares = choice_probabilities(engine.decoder, ids[-room:], encoded)
    found = [
        Choice(text=text, probability=share) for text, share in zip(choices, shares, strict=True)
    ]
    return tuple(sorted(found, key=lambda choice: -choice.probability))


def _sampled_tokens(
    language_model: LanguageModel, tokens: Sequence[Token]
) -> tuple[SampledToken, ...]:
    bytes_of = token_bytes(language_model.tokenizer)

    def text(index: int) -> str:
        return bytes_of(index).decode("utf-8", errors="replace")

    return tuple(
        SampledToken(
            text=text(token.id),
            logprob=token.logprobs.drawn,
            top=tuple((text(index), logprob) for index, logprob in token.logprobs.top),
        )
        for token in tokens
        if token.logprobs is not None
    )
