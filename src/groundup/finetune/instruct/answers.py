"""Greedy answers to a batch of prompts, for testing on hundreds of prompts.

Each step runs the model on the complete batch and appends the most likely token to every row.
Without a KV cache this takes more arithmetic than `generate`, but in a few large matrix products
instead of thousands of small ones. A test checks that both give the same answers. Rows are padded
on the right, where the causal mask hides the padding.
"""

from collections.abc import Sequence, Set

import torch

from groundup.finetune.batches import pad_rows
from groundup.model.gpt import GPT


@torch.no_grad()
def answer_all(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    stop_ids: Set[int],
    batch_size: int = 64,
) -> list[list[int]]:
    """Continue every prompt greedily, up to and without the first stop token.

    Returns:
        The new ids of each prompt, in the order of the prompts: at most `max_new_tokens`, or fewer
        where the context is full.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    limit = model.config.context_length
    answers: list[list[int]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(by_length), batch_size):
        open_rows = by_length[start : start + batch_size]
        for _ in range(max_new_tokens):
            rows = {i: [*prompts[i], *answers[i]] for i in open_rows}
            open_rows = [i for i in open_rows if len(rows[i]) < limit]
            if not open_rows:
                break
            ids = pad_rows([rows[i] for i in open_rows], pad=0).to(device)
            last = torch.tensor([len(rows[i]) - 1 for i in open_rows], device=device)
            logits = model(ids)[torch.arange(len(open_rows), device=device), last]  # (B, V)
            best = logits[:, : model.n_used_ids].argmax(dim=1).tolist()
            for i, token in zip(open_rows, best, strict=True):
                if token not in stop_ids:
                    answers[i].append(token)
            open_rows = [
                i for i, token in zip(open_rows, best, strict=True) if token not in stop_ids
            ]
    model.train(was_training)
    return answers
