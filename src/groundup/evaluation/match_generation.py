"""Whether generation computes the model: with stored keys and values, and in a batch."""

from collections.abc import Sequence

import torch

from groundup.generation.decoder import Decoder
from groundup.generation.generate import generate
from groundup.model.gpt import GPT

N_NEW = 32


@torch.inference_mode()
def compare_generation(
    model: GPT, prompts: Sequence[list[int]], tolerance: float
) -> list[tuple[str, bool, str]]:
    """Compare greedy texts and logits; return names, whether they are equal, and what was found."""
    decoder = Decoder(model, measure=False)
    n_new = min(N_NEW, model.config.context_length - max(map(len, prompts)))
    if n_new < 1:
        return []
    alone = [generate(decoder, prompt, n_new, temperature=0) for prompt in prompts]
    plain = [generate(model, p, n_new, temperature=0, use_cache=False) for p in prompts]
    batched = generate(decoder, prompts, n_new, temperature=0)
    largest = max(
        _difference(model, decoder, prompt + answer[:-1])
        for prompt, answer in zip(prompts, alone, strict=True)
    )
    n_tokens = sum(map(len, alone))
    return [
        (
            "cached = uncached",
            alone == plain and largest <= tolerance,
            f"{_n_equal(alone, plain)} of {n_tokens} greedy tokens are equal; the largest "
            f"difference of logits is {largest:.2g}",
        ),
        (
            "batched = single",
            alone == batched,
            f"{_n_equal(alone, batched)} of {n_tokens} greedy tokens are equal, in a batch of "
            f"{len(prompts)}",
        ),
    ]


def _difference(model: GPT, decoder: Decoder, ids: list[int]) -> float:
    """Largest difference of logits, of which the last ones are computed one by one."""
    n_read = max(1, len(ids) - N_NEW)
    row = decoder.new_row(len(ids))
    logits = [decoder.read(ids[:n_read], row, n_last=n_read)]
    logits += [decoder.step([token], [row]) for token in ids[n_read:]]
    V = model.n_used_ids
    expected = model(torch.tensor([ids], device=model.device))[0].cpu()
    return float((torch.cat(logits)[:, :V] - expected[:, :V]).abs().max())


def _n_equal(first: list[list[int]], second: list[list[int]]) -> int:
    """Number of equal tokens before the first difference of each text."""
    n_equal = 0
    for ours, theirs in zip(first, second, strict=True):
        for a, b in zip(ours, theirs, strict=False):
            if a != b:
                break
            n_equal += 1
    return n_equal
