"""The check of token ids before a model reads them."""

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.packed import Documents


def check_ids(
    ids: Tensor,
    *,
    vocab_size: int,
    context_length: int,
    start: int = 0,
    documents: Documents | None = None,
) -> None:
    """Check that these are token ids, (B, T), that a model can read.

    On a GPU the values are not read, because the step would have to wait for them.

    Args:
        ids: The token ids.
        vocab_size: Number of different tokens.
        context_length: Number of positions of the model.
        start: Number of positions before them.
        documents: The documents of a packed row.

    Raises:
        UserError: The shape or the type is another, an id is not in the vocabulary, there are more
            positions than the context length, or the documents are not those of one packed row.
    """
    found = ""
    if not isinstance(ids, Tensor):
        found = f"are of type {type(ids).__name__}"
    elif ids.dtype not in (torch.int64, torch.int32) or ids.ndim != 2 or not ids.shape[1]:
        found = f"are {tuple(ids.shape)} {str(ids.dtype).removeprefix('torch.')}"
    elif ids.device.type == "cpu" and ids.numel() and not torch.compiler.is_compiling():
        low, high = (int(end) for end in ids.aminmax())
        found = "" if low >= 0 and high < vocab_size else f"range from {low:,} to {high:,}"
    if found:
        raise UserError(
            f"The token ids {found}. A tensor (B, T) int64 below {vocab_size:,} is expected, for B "
            "texts of T tokens."
        )
    if documents is not None and ids.shape != (1, len(documents.positions)):
        raise UserError(
            f"The token ids are {tuple(ids.shape)}, and the lengths of the documents add up to "
            f"{len(documents.positions)}. A packed row of shape (1, {len(documents.positions)}) is "
            "expected."
        )
    longest = start + ids.shape[1] if documents is None else max(documents.lengths)
    if longest > context_length:
        raise UserError(
            f"{longest} tokens do not fit in the model's context of "
            f"{context_length}. Use a shorter text, or a model with a longer context_length."
        )
