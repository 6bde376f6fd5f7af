"""Whether generation computes the model: with stored keys and values, and in a batch."""

from collections.abc import Sequence

import torch

from groundup.base.sequences import n_common
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
    batched = generate(decoder, prompts, n_new, temperature=0)
    compared = [
        _compare(model, decoder, prompt, answer)
        for prompt, answer in zip(prompts, alone, strict=True)
    ]
    plain = [answer for answer, _, _ in compared]
    largest = max(difference for _, difference, _ in compared)
    scale = max(size for _, _, size in compared)
    n_tokens = sum(map(len, alone))
    return [
        (
            "cached = uncached",
            alone == plain and largest <= tolerance * max(1.0, scale),
            f"{_n_equal(alone, plain)} of {n_tokens} greedy tokens are equal; the largest "
            f"difference of logits is {largest:.2g}, and the largest logit {scale:.2g}",
        ),
        (
            "batched = single",
            alone == batched,
            f"{_n_equal(alone, batched)} of {n_tokens} greedy tokens are equal, in a batch of "
            f"{len(prompts)}",
        ),
    ]


def _compare(
    model: GPT, decoder: Decoder, prompt: list[int], answer: list[int]
) -> tuple[list[int], float, float]:
    """Compute an answer again in one pass over the whole text.

    Returns:
        The most likely token at each place of the answer, the largest difference of logits from
        those that the decoder computes one by one, and the largest logit.
    """
    ids = prompt + answer[:-1]
    row = decoder.new_row(len(ids))
    logits = [decoder.read(prompt, row)]
    logits += [decoder.step([token], [row]) for token in answer[:-1]]
    used = slice(None, model.n_used_ids)
    expected = model(torch.tensor([ids], device=model.device))[0, len(prompt) - 1 :].cpu()[:, used]
    difference = (torch.cat(logits)[:, used] - expected).abs().max()
    return expected.argmax(-1).tolist(), float(difference), float(expected.abs().max())


def _n_equal(first: list[list[int]], second: list[list[int]]) -> int:
    """Number of equal tokens before the first difference of each text."""
    return sum(n_common(ours, theirs) for ours, theirs in zip(first, second, strict=True))
