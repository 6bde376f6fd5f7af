"""Text out of a model, token by token, as ids: this room knows no tokenizer."""

import logging
from collections.abc import Collection, Iterator, Sequence

import torch

from groundup.base.errors import UserError
from groundup.generation.cache import KVCache
from groundup.generation.sampling import check_sampling, draw, next_token_probabilities
from groundup.model.gpt import GPT

logger = logging.getLogger(__name__)


def window_start(n_tokens: int, context_length: int) -> int:
    """Where the window over the last tokens begins, for a text of n tokens.

    While the text fits it begins at 0. After that it moves on by a quarter of the context at a
    time: a moved window has to be read anew, and moving it for every single token would make the
    cache worthless.

    >>> [window_start(n, 8) for n in (7, 8, 9, 10, 11)]
    [0, 0, 2, 2, 4]
    """
    step = max(1, context_length // 4)
    too_many = max(0, n_tokens - context_length)
    return -(-too_many // step) * step


def stream(
    model: GPT,
    ids: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
    use_cache: bool = True,
) -> Iterator[int]:
    """Yield new token ids one by one, each drawn after all before it.

    A stop id ends the text and is not yielded. A text longer than the model's context is read
    through a window over its end (see `window_start`), and a warning says so once. With and without
    the cache the window, and up to rounding the logits, are the same.

    Args:
        model: the model; it is put in evaluation mode while it writes.
        ids: the prompt, at least one token.
        max_new_tokens: how many at most.
        temperature: 0 for always the likeliest token; below 1 calmer, above 1 wilder.
        top_k: draw from this many likeliest tokens only.
        top_p: draw from the smallest set of tokens with this much probability together.
        stop_ids: any of these ends the text.
        seed: fixes the draw, on every device.
        use_cache: keep keys and values of the past; False computes everything anew for each token.

    Raises:
        UserError: the prompt is empty or has ids outside the vocabulary, or a setting means
            nothing.
    """
    # Checks run at the call, not at the first token; hence the inner generator.
    check_sampling(temperature, top_k, top_p)
    if max_new_tokens < 0:
        raise UserError(f"max_new_tokens is {max_new_tokens}", need="0 or more")
    if not ids:
        raise UserError("the prompt has no tokens", need="at least one token to go on from")
    V = model.config.vocab_size
    outside = [i for i in ids if not 0 <= i < V]
    if outside:
        raise UserError(
            f"the prompt has token id {outside[0]}, and the vocabulary ends at {V - 1}",
            need="the tokenizer this model was trained with",
        )

    def write() -> Iterator[int]:
        T = model.config.context_length
        generator = torch.Generator().manual_seed(seed)
        weight = model.token_embedding.weight
        cache = (
            KVCache(model.config, device=weight.device, dtype=weight.dtype) if use_cache else None
        )
        tokens = list(ids)
        start, warned = 0, False
        for _ in range(max_new_tokens):
            moved = window_start(len(tokens), T)
            if moved != start:
                if not warned:
                    logger.warning(
                        "%d tokens do not fit in a context of %d: the first %d are no longer read",
                        len(tokens), T, moved,
                    )  # fmt: skip
                    warned = True
                start = moved
                if cache is not None:
                    cache.reset()
            known = start + (0 if cache is None else cache.length)
            logits = _last_logits(model, tokens[known:], cache)
            token = draw(
                next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p),
                generator,
            )
            if token in stop_ids:
                return
            tokens.append(token)
            yield token

    return write()


def generate(
    model: GPT,
    ids: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
    use_cache: bool = True,
) -> list[int]:
    """The new token ids of `stream`, all at once; same arguments, same errors.

    >>> from groundup.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=9, context_length=8, d_model=16, n_layers=1, n_heads=2))
    >>> len(generate(model, [1, 2, 3], 4, seed=5))
    4
    """
    return list(
        stream(
            model,
            ids,
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop_ids=stop_ids,
            seed=seed,
            use_cache=use_cache,
        )
    )


@torch.inference_mode()
def _last_logits(model: GPT, ids: Sequence[int], cache: KVCache | None) -> torch.Tensor:
    """Logits (V) after the last of `ids`, on the CPU, where the draw is made."""
    training = model.training
    model.eval()
    try:
        batch = torch.tensor([ids], dtype=torch.long, device=model.device)
        # The head is asked for the last position alone: it is the widest product of a small model.
        last = model.hidden(batch, cache=cache)[:, -1:]  # (1, 1, C)
        logits: torch.Tensor = model.head(last)[0, 0]
        return logits.float().cpu()
    finally:
        model.train(training)
