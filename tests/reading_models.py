"""A decoder that copies: what followed the last token where it stood before, within a reach."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from groundup.generation.decoder import Decoder
from groundup.model.config import GPTConfig


class Copier(Decoder):
    """Expects the token that followed the same token at its latest place in the last `reach`.

    Args:
        vocab_size: Number of token ids.
        reach: Number of positions that it sees, its own included.
    """

    def __init__(self, vocab_size: int, *, reach: int) -> None:  # without weights
        self.config = GPTConfig(vocab_size=vocab_size, context_length=2**20)
        self._reach = reach
        self.most_read = 0

    def new_row(self, n_positions: int | None = None) -> Any:
        return SimpleNamespace(ids=[], latest={})

    def read(self, ids: Sequence[int], row: Any, *, n_last: int = 1, watch: None = None) -> Tensor:  # type: ignore[override]
        logits = torch.zeros(n_last, self.config.vocab_size)
        for i, token in enumerate(ids):
            place = row.latest.get(token)
            row.latest[token] = len(row.ids)
            row.ids.append(token)
            at = i - len(ids) + n_last
            if at >= 0 and place is not None and len(row.ids) - place <= self._reach:
                logits[at, row.ids[place + 1]] = 20.0
        self.most_read = max(self.most_read, len(row.ids))
        return logits
