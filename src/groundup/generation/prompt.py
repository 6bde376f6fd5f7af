"""The prompt of a generation as a list of ids, whatever held them."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.base.arguments import WrongTypeError, own_checks, shown
from groundup.base.errors import UserError

_EXPECTED = "A list, tensor or array of token ids is expected."


@own_checks
def is_batch(ids: Any) -> bool:
    """Whether the ids are several prompts: a tensor or array (B, T), or a list of rows."""
    if isinstance(ids, (Tensor, np.ndarray)):
        return ids.ndim == 2
    if not isinstance(ids, (list, tuple)) or not ids:
        return False
    row = ids[0]
    return isinstance(row, (list, tuple)) or getattr(row, "ndim", 0) > 0


@own_checks
def check_prompt(ids: Any, vocab_size: int) -> list[int]:
    """Return the ids of one prompt as a list.

    >>> check_prompt(torch.tensor([1, 2]), 9), check_prompt(np.array([3]), 9), check_prompt((4,), 9)
    ([1, 2], [3], [4])

    Raises:
        UserError: The prompt is text or has no ids, or ids outside the vocabulary.
    """
    if isinstance(ids, (str, bytes)):
        raise WrongTypeError(
            f"The prompt is text: {shown(ids)}. {_EXPECTED} Encode the text with the tokenizer of "
            "the model, or use groundup.load(run).generate(text), which takes text."
        )
    if isinstance(ids, (Tensor, np.ndarray)):
        if ids.ndim != 1:
            raise WrongTypeError(
                f"The prompt has the shape {tuple(ids.shape)}. Expected (T,) for one prompt; "
                "generate also takes (B, T)."
            )
        is_bool = ids.dtype in (torch.bool, np.bool_)
        ids = [bool(i) for i in ids] if is_bool else ids.tolist()
    elif not isinstance(ids, Sequence):
        raise WrongTypeError(f"The prompt is {shown(ids)}. {_EXPECTED}")
    if not len(ids):
        raise UserError("The prompt has no tokens. Expected at least one.")
    prompt = [_whole(item) for item in ids]
    outside = [i for i in prompt if not 0 <= i < vocab_size]
    if outside:
        raise UserError(
            f"The prompt has the token id {outside[0]}, and the vocabulary ends at "
            f"{vocab_size - 1}. Use the tokenizer that the model was trained with."
        )
    return prompt


def _whole(item: Any) -> int:
    try:
        number = operator.index(item)
    except TypeError:
        number = None
    if number is None or isinstance(item, bool):
        raise WrongTypeError(f"The prompt has {shown(item)} as a token id. {_EXPECTED}")
    return number
