"""Generate text from a model, token by token, as ids."""

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.arguments import own_checks, whole_number
from groundup.generation.cache import KVCache
from groundup.generation.prompt import check_prompt, is_batch
from groundup.generation.sampling import check_sampling, draw, next_token_probabilities
from groundup.model.gpt import GPT

_log = logging.getLogger(__name__)


def window_start(n_tokens: int, context_length: int) -> int:
    """Start of the window over the last tokens that the model reads, for a text of n tokens.

    While the text fits into the context the window starts at 0. Then it moves forward by a quarter
    of the context at a time: each move invalidates the KV cache, so moving the window for every
    token would make the cache useless.

    >>> [window_start(n, 8) for n in (7, 8, 9, 10, 11)]
    [0, 0, 2, 2, 4]
    """
    step = max(1, context_length // 4)
    excess = max(0, n_tokens - context_length)
    return -(-excess // step) * step


@own_checks
def stream(
    model: GPT,
    ids: Sequence[int] | Tensor | NDArray[np.integer],
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
    use_cache: bool = True,
) -> Iterator[int]:
    """Yield new token ids one by one, each sampled given all tokens before it.

    A stop id ends the text and is not yielded. If the text is longer than the context length, the
    model reads its last tokens (see `window_start`), and one warning is logged. The window is the
    same with and without the cache; the logits are the same up to rounding.

    Args:
        model: Model to sample from. It is in evaluation mode while it computes logits.
        ids: Token ids of the prompt, at least one: a list, or a tensor or array (T,).
        max_new_tokens: Maximum number of new tokens.
        temperature: Divides the logits: below 1 makes likely tokens likelier, above 1 makes the
            text more random. 0 always takes the most likely token.
        top_k: Sample from this many most likely tokens. None disables it.
        top_p: Sample from the smallest set of tokens with this total probability. None disables it.
        stop_ids: Token ids that end the text.
        seed: Random seed of the samples, the same on every device.
        use_cache: Store keys and values of earlier positions. False computes all positions again
            for each token.

    Raises:
        UserError: The prompt is empty or has ids outside the vocabulary, or a setting is out of
            range.
    """
    # The checks run when `stream` is called, not at the first token; hence the inner generator.
    check_sampling(temperature, top_k, top_p)
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, at_least=0)
    tokens = check_prompt(ids, model.config.vocab_size)

    def sample() -> Iterator[int]:
        T = model.config.context_length
        generator = torch.Generator().manual_seed(seed)
        weight = model.token_embedding.weight
        cache = (
            KVCache(model.config, device=weight.device, dtype=weight.dtype) if use_cache else None
        )
        start, warned = 0, False
        for _ in range(max_new_tokens):
            moved = window_start(len(tokens), T)
            if moved != start:
                if not warned:
                    _log.warning(
                        "%d tokens do not fit in a context of %d. The model ignores the first %d.",
                        len(tokens), T, moved,
                    )  # fmt: skip
                    warned = True
                start = moved
                if cache is not None:
                    cache.reset()
            n_read = start + (0 if cache is None else cache.length)
            logits = _last_logits(model, tokens[n_read:], cache)  # (V,)
            token = draw(
                next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p),
                generator,
            )
            if token in stop_ids:
                return
            tokens.append(token)
            yield token

    return sample()


class _Settings(TypedDict, total=False):
    """Keyword arguments of `generate`, as its overloads share them."""

    temperature: float | int
    top_k: int | None
    top_p: float | None
    stop_ids: Collection[int]
    seed: int
    use_cache: bool


@overload
def generate(
    model: GPT, ids: Sequence[int], max_new_tokens: int, **settings: Unpack[_Settings]
) -> list[int]: ...
@overload
def generate(
    model: GPT, ids: Sequence[Sequence[int]], max_new_tokens: int, **settings: Unpack[_Settings]
) -> list[list[int]]: ...
@overload
def generate(
    model: GPT,
    ids: Tensor | NDArray[np.integer],
    max_new_tokens: int,
    **settings: Unpack[_Settings],
) -> list[Any]: ...
@own_checks
def generate(
    model: GPT,
    ids: Sequence[int] | Sequence[Sequence[int]] | Tensor | NDArray[np.integer],
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
    use_cache: bool = True,
) -> list[int] | list[list[int]]:
    """Return the new token ids of `stream` as a list; same arguments, same errors.

    For a batch (a list of rows, or a tensor or array (B, T)) the result is one list per row. Each
    row is generated as if it were alone, with the same seed.

    >>> from groundup.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=9, context_length=8, d_model=16, n_layers=1, n_heads=2))
    >>> len(generate(model, torch.tensor([1, 2, 3]), 4, seed=5))
    4
    >>> [len(row) for row in generate(model, [[1, 2, 3], [4, 5]], 4)]
    [4, 4]
    """

    def new_ids(prompt: Any) -> list[int]:
        return list(
            stream(
                model,
                prompt,
                max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                stop_ids=stop_ids,
                seed=seed,
                use_cache=use_cache,
            )
        )

    return [new_ids(row) for row in ids] if is_batch(ids) else new_ids(ids)


@torch.inference_mode()
def _last_logits(model: GPT, ids: Sequence[int], cache: KVCache | None) -> torch.Tensor:
    """Compute the logits (V,) after the last id, on the CPU, where the sample is drawn."""
    training = model.training
    model.eval()
    try:
        batch = torch.tensor([ids], dtype=torch.long, device=model.device)
        # The head computes the last position only: it is the largest matrix of a small model.
        last = model.hidden(batch, cache=cache)[:, -1:]  # (1, 1, C)
        logits = model.logits(last)[0, 0].float().cpu()
        logits[model.n_used_ids :] = float("-inf")  # ids without a token
        return logits
    finally:
        model.train(training)
