"""Read a long text in parts, through the stored state, and score its last tokens.

No tensor has a row or a column for every token of the text, except for the stored keys and values
of layers with full attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.model.gpt import GPT

_PART = 256
"""Logits that are held at once; a row has one for each token of the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well a model predicts the last tokens of a text."""

    nats: Float[np.ndarray, " n"]
    """Loss of each token."""
    is_best: Bool[np.ndarray, " n"]
    """Whether it is the most likely token."""


def read_to_the_end(decoder: Decoder, ids: Sequence[int], n: int) -> Scores:
    """Predict each of the last `n` tokens from all tokens before it.

    Args:
        decoder: Computes the logits.
        ids: Token ids of the text, at most one more than the context of the model.
        n: Number of tokens to predict, less than the number of ids.
    """
    assert 0 < n < len(ids)
    row = decoder.new_row(len(ids) - 1)
    if n + 1 < len(ids):
        decoder.read(ids[: -n - 1], row)
    nats, is_best = [], []
    for first in range(len(ids) - n, len(ids), _PART):
        targets = torch.tensor(ids[first : first + _PART])
        logits = decoder.read(ids[first - 1 : first - 1 + len(targets)], row, n_last=len(targets))
        own: Tensor = logits.gather(1, targets[:, None])[:, 0]
        nats.append((logits.logsumexp(1) - own).double().numpy())
        is_best.append((logits.argmax(1) == targets).numpy())
    return Scores(nats=np.concatenate(nats), is_best=np.concatenate(is_best))


def let_read(model: GPT, n_tokens: int, *, setting: str) -> None:
    """Let a model read texts of this length, also longer ones than it was trained on.

    Args:
        model: The model. Its context length is raised where that is needed.
        n_tokens: Length of the texts.
        setting: The setting that names the length, for the message.

    Raises:
        UserError: The model has an embedding for each position, and not as many.
    """
    config = model.config
    if n_tokens <= config.context_length:
        return
    if config.positions == "learned":
        raise UserError(
            f"{setting} is {n_tokens:,}, and the model has embeddings for "
            f"{config.context_length:,} positions. It cannot read a longer text.",
            settings={setting: config.context_length},
        )
    window = config.window_width if "w" in (config.layers or "") else config.window
    model.config = replace(config, context_length=n_tokens, window=window)
    if model.rotary is not None:
        model.rotary.extend(n_tokens)
