"""Give a model the chat tokens that its tokenizer lacks: new ids, and new rows of the embedding."""

from dataclasses import replace

import torch

from groundup.evaluation.load import LanguageModel
from groundup.model.gpt import GPT
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.special import ASSISTANT, END, USER

CHAT_TOKENS = (USER, ASSISTANT, END)
_NOISE = 0.01
"""Standard deviation of the noise on a new row, in those of the existing rows."""


def with_chat_tokens(
    foundation: LanguageModel, *, seed: int = 0
) -> tuple[LanguageModel, tuple[str, ...]]:
    """Return the model with all chat tokens, and the names of those that were added.

    A model that has them all is returned as it is.

    Raises:
        UserError: The tokenizer is of a kind that takes no further tokens.
    """
    tokenizer = foundation.tokenizer
    missing = tuple(name for name in CHAT_TOKENS if name not in tokenizer.special_tokens)
    if not missing:
        return foundation, ()
    extended = with_special_tokens(tokenizer, missing)
    model = with_rows(foundation.model, tokenizer.vocab_size, extended.vocab_size, seed=seed)
    return replace(foundation, model=model, tokenizer=extended), missing


@torch.no_grad()
def with_rows(model: GPT, n_before: int, n_after: int, *, seed: int) -> GPT:
    """Return a copy of a model with embeddings for `n_after` tokens instead of `n_before`.

    Rows of padding beyond the old tokens are used first. The new tokens get the mean of the rows of
    the old ones, so that they are as likely as an average token at first, and a little noise.

    Source: "Initializing New Word Embeddings for Pretrained Language Models" (Hewitt, 2021), as in
        `resize_token_embeddings(mean_resizing=True)` of transformers.
    """
    generator = torch.Generator().manual_seed(seed)
    vocab_size = max(model.config.vocab_size, n_after)
    larger = GPT(replace(model.config, vocab_size=vocab_size))
    old = dict(model.named_parameters())
    for name, parameter in larger.named_parameters():
        before = old[name].detach().cpu()
        if name in ("token_embedding.weight", "head.weight"):
            parameter[: len(before)] = before
            known = before[:n_before]
            noise = torch.randn(n_after - n_before, before.shape[1], generator=generator)
            parameter[n_before:n_after] = known.mean(dim=0) + _NOISE * known.std(dim=0) * noise
        else:
            parameter.copy_(before)
    larger.n_used_ids = n_after
    return larger.to(model.device).train(model.training)
