"""A GPT with a linear head over its pooled hidden states."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.base.targets import IGNORE_INDEX
from groundup.model.gpt import GPT

Pooling = Literal["mean", "last", "mean+last"]


def pool(
    hidden: Float[Tensor, "B T C"], lengths: Int[Tensor, " B"], pooling: Pooling
) -> Float[Tensor, "B P"]:
    """Summarize the hidden states of each text in one vector; padding is left out.

    Args:
        hidden: The hidden states.
        lengths: Number of tokens of each text; padding follows them.
        pooling: "mean": over all tokens. "last": that of the last token, the only one that attends
            to the complete text. "mean+last": both, one after the other.

    >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]), "mean+last")
    tensor([[2., 3.]])
    """
    parts = []
    if pooling != "last":
        is_token = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]  # (B, T)
        # No matrix product, which automatic mixed precision would round.
        parts.append((hidden * is_token[..., None]).sum(dim=1) / lengths[:, None])  # (B, C)
    if pooling != "mean":
        rows = torch.arange(len(hidden), device=hidden.device)
        parts.append(hidden[rows, lengths - 1])  # (B, C)
    return torch.cat(parts, dim=1)


class Classifier(nn.Module):
    """A GPT and a linear head over its pooled final hidden states.

    Args:
        gpt: The language model.
        names: Class names; class k is `names[k]`.
        pooling: See `pool`.
        max_tokens: Longer texts are truncated to this; None uses the context length.
        dtype: Format of the matrix products of the GPT.
    """

    def __init__(
        self,
        gpt: GPT,
        names: Sequence[str],
        *,
        pooling: Pooling = "mean",
        max_tokens: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.gpt = gpt
        self.names = tuple(names)
        self.pooling: Pooling = pooling
        self.max_tokens = min(max_tokens or gpt.config.context_length, gpt.config.context_length)
        self.dtype = dtype
        width = gpt.config.d_model * (2 if pooling == "mean+last" else 1)
        self.head = nn.Linear(width, len(self.names))
        # A zero head gives a uniform distribution: the first loss is ln(number of classes).
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def classify(
        self, hidden: Float[Tensor, "B T C"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "B n_classes"]:
        """Compute the logits of each text from its final hidden states."""
        with torch.autocast(hidden.device.type, enabled=False):
            pooled = pool(hidden, lengths, self.pooling)
            logits: Tensor = self.head(pooled.to(self.head.weight.dtype))
        return logits

    def forward(
        self, ids: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "B n_classes"]:
        """Compute the logits of each text; `lengths` are the numbers of tokens before padding."""
        is_mixed = self.dtype != torch.float32
        with torch.autocast(ids.device.type, dtype=self.dtype, enabled=is_mixed):
            hidden = self.gpt.hidden(ids)  # (B, T, C)
        return self.classify(hidden.float(), lengths)

    def loss(self, ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Compute the mean cross-entropy in nats.

        Batches have the shape of a language model's, so that both use the same training loop. Each
        row of targets has the label at the last token of the text and -100 everywhere else.
        """
        lengths, labels = labels_of(targets)
        return nn.functional.cross_entropy(self.forward(ids, lengths).float(), labels)


def labels_of(targets: Int[Tensor, "B T"]) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Return the length and the label of each row of targets."""
    counted = targets != IGNORE_INDEX
    if not bool((counted.sum(dim=1) == 1).all()):
        raise ValueError("A row of targets must contain exactly one label, at its last token.")
    last = counted.int().argmax(dim=1)
    return last + 1, targets[torch.arange(len(targets), device=targets.device), last]
