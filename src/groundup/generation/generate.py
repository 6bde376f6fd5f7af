"""Generate text from a model, as ids: one text token by token, or a batch at once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.arguments import own_checks, whole_number
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine
from groundup.generation.prompt import check_prompt, is_batch
from groundup.generation.request import Request, Sampling, check_lookup
from groundup.generation.sampler import Sampler
from groundup.generation.sequence import warn_of_window, window_start
from groundup.model.gpt import GPT

_CHUNK = 512
"""Nobody else waits while one prompt is read."""


class _Settings(TypedDict, total=False):
    """Keyword arguments of `stream` and `generate`, as overloads share them."""

    temperature: float | int
    top_k: int | None
    top_p: float | int | None
    min_p: float | int | None
    repetition_penalty: float | int
    presence_penalty: float | int
    frequency_penalty: float | int
    logit_bias: Mapping[int, float | int] | None
    stop_ids: Collection[int]
    seed: int
    use_cache: bool
    prompt_lookup: bool


@own_checks
def stream(
    model: GPT | Decoder | Engine,
    ids: Sequence[int] | Tensor | NDArray[np.integer],
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    repetition_penalty: float | int = 1.0,
    presence_penalty: float | int = 0.0,
    frequency_penalty: float | int = 0.0,
    logit_bias: Mapping[int, float | int] | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
    use_cache: bool = True,
    prompt_lookup: bool = False,
) -> Iterator[int]:
    """Yield new token ids one by one, each sampled given all tokens before it.

    A stop id ends the text and is not yielded. If the text is longer than the context length, the
    model reads its last tokens (see `window_start`), and one warning is logged. The window is the
    same with and without the cache; the logits are the same up to rounding.

    Args:
        model: Model to sample from, without dropout; or a decoder of it, which may hold the weights
            in a reduced form; or an engine that nobody else uses, which may keep what was read.
        ids: Token ids of the prompt, at least one: a list, or a tensor or array (T,).
        max_new_tokens: Maximum number of new tokens.
        temperature: Divides the logits: below 1 makes likely tokens likelier, above 1 makes the
            text more random. 0 always takes the most likely token.
        top_k: Sample from this many most likely tokens. None disables it.
        top_p: Sample from the smallest set of tokens with this total probability. None disables it.
        min_p: Sample from tokens with at least this share of the largest probability. None disables
            it.
        repetition_penalty: Makes tokens of the prompt and the text less likely. 1 disables it.
        presence_penalty: Subtracted from the logits of tokens that were generated.
        frequency_penalty: Subtracted from these logits once for each time.
        logit_bias: Added to the logits of these ids.
        stop_ids: Token ids that end the text.
        seed: Random seed of the samples, the same on every device.
        use_cache: Store keys and values of earlier positions. False computes all positions again
            for each token.
        prompt_lookup: Copy likely continuations from the text so far, and verify several tokens at
            once. The tokens are the same.

    Raises:
        UserError: The prompt is empty or has ids outside the vocabulary, or a setting is out of
            range.
    """
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=logit_bias or {},
        seed=seed,
    )
    # The checks run when `stream` is called, not at the first token; hence the inner generators.
    request = _request(model, ids, max_new_tokens, sampling, stop_ids, prompt_lookup)
    if not use_cache and isinstance(model, GPT):
        return _uncached(model, request)
    return (token for _, token in _cached(model, [request]))


@overload
def generate(
    model: GPT | Decoder | Engine,
    ids: Sequence[int],
    max_new_tokens: int,
    **settings: Unpack[_Settings],
) -> list[int]: ...
@overload
def generate(
    model: GPT | Decoder | Engine,
    ids: Sequence[Sequence[int]],
    max_new_tokens: int,
    **settings: Unpack[_Settings],
) -> list[list[int]]: ...
@overload
def generate(
    model: GPT | Decoder | Engine,
    ids: Tensor | NDArray[np.integer],
    max_new_tokens: int,
    **settings: Unpack[_Settings],
) -> list[Any]: ...
@own_checks
def generate(
    model: GPT | Decoder | Engine,
    ids: Sequence[int] | Sequence[Sequence[int]] | Tensor | NDArray[np.integer],
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    repetition_penalty: float | int = 1.0,
    presence_penalty: float | int = 0.0,
    frequency_penalty: float | int = 0.0,
    logit_bias: Mapping[int, float | int] | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
    use_cache: bool = True,
    prompt_lookup: bool = False,
) -> list[int] | list[list[int]]:
    """Return the new token ids of `stream` as a list; same arguments, same errors.

    For a batch (a list of rows, or a tensor or array (B, T)) the result is one list per row. The
    rows are generated together. Each has the tokens that it has alone, with the same seed.

    >>> from groundup.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=9, context_length=8, d_model=16, n_layers=1, n_heads=2))
    >>> len(generate(model, torch.tensor([1, 2, 3]), 4, seed=5))
    4
    >>> [len(row) for row in generate(model, [[1, 2, 3], [4, 5]], 4)]
    [4, 4]
    """
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=logit_bias or {},
        seed=seed,
    )
    rows: list[Any] = list(ids) if is_batch(ids) else [ids]
    requests = [
        _request(model, row, max_new_tokens, sampling, stop_ids, prompt_lookup) for row in rows
    ]
    if not use_cache and isinstance(model, GPT):
        new = [list(_uncached(model, request)) for request in requests]
    else:
        new = [[] for _ in requests]
        for place, token in _cached(model, requests):
            new[place].append(token)
    return new if is_batch(ids) else new[0]


@own_checks
def _request(
    model: GPT | Decoder | Engine,
    ids: Any,
    max_new_tokens: int,
    sampling: Sampling,
    stop_ids: Collection[int],
    prompt_lookup: bool,
) -> Request:
    config = model.decoder.config if isinstance(model, Engine) else model.config
    request = Request(
        ids=check_prompt(ids, config.vocab_size),
        max_new_tokens=whole_number("max_new_tokens", max_new_tokens, at_least=0),
        sampling=sampling,
        stop_ids=stop_ids,
        slide=True,
        prompt_lookup=prompt_lookup,
    )
    request.check(config.vocab_size, config.context_length)
    check_lookup(request, config)
    return request


def _cached(
    model: GPT | Decoder | Engine, requests: Sequence[Request]
) -> Iterator[tuple[int, int]]:
    """Yield the number of a request and its next token, as the engine generates them."""
    if not requests:
        return
    if isinstance(model, Engine):
        engine = model
    else:
        decoder = model if isinstance(model, Decoder) else Decoder(model)
        engine = Engine(decoder, max_rows=len(requests), prefill_chunk=_CHUNK)
    places = {engine.submit(request): place for place, request in enumerate(requests)}
    try:
        while not all(handle.is_finished for handle in places):
            for event in engine.step():
                if event.handle not in places:
                    continue
                if event.error is not None:
                    raise event.error
                for token in event.tokens:
                    yield places[event.handle], token.id
    finally:  # the reader may have left early
        for handle in places:
            handle.cancel()


def _uncached(model: GPT, request: Request) -> Iterator[int]:
    """Generate without a cache, as the definition says: all positions for each token.

    It is the reference of the engine: tests hold both equal.
    """
    T = model.config.context_length
    sampler = Sampler(request.sampling, request.ids, seed=request.sampling.seed)
    tokens, warned = list(request.ids), False
    for n_left in range(request.max_new_tokens, 0, -1):
        start = window_start(len(tokens), T)
        if start and not warned:
            warn_of_window(len(tokens), T, start)
            warned = True
        with _evaluating(model), torch.inference_mode():
            batch = torch.tensor([tokens[start:]], dtype=torch.long, device=model.device)
            # The head computes the last position only: it is the largest matrix of a small model.
            last = model.hidden(batch)[:, -1:]  # (1, 1, C)
            logits = model.logits(last)[0, 0].float().cpu()  # (V,)
            logits[model.n_used_ids :] = float("-inf")  # ids without a token
        token = sampler.draw(logits, n_left).id
        if token in request.stop_ids:
            return
        tokens.append(token)
        yield token


@contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    """Turn dropout off while a model in training generates."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
