"""Any tokenizer as the book uses one: its ids, checked and as an array."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.arguments import WrongTypeError, own_checks, shown
from groundup.base.errors import UserError
from groundup.data.store import token_dtype
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END_OF_TEXT

_MAX_ID = 2**32 - 1


@runtime_checkable
class Encoder(Protocol):
    """Any tokenizer with `encode(text)`: of tiktoken, tokenizers, this package or your own.

    If `encode` has a parameter `allowed_special`, it gets `{"<|endoftext|>"}`, as in the book, or
    an empty set for a tokenizer of this package without that special token.
    """

    @property
    def encode(self) -> Callable[..., Any]:
        """Return the ids of a text."""
        ...


@own_checks
def encode_text(tokenizer: Encoder, text: str) -> NDArray[np.integer]:
    """Encode a text with any tokenizer, in two or four bytes per id.

    Raises:
        UserError: The text is not a str, the tokenizer has no `encode`, or what it returns are not
            token ids.
    """
    if not isinstance(text, str):
        hint = " Decode it first: .decode('utf-8')." if isinstance(text, bytes) else ""
        raise WrongTypeError(f"The text is {shown(text)}. A str is expected.{hint}")
    encode = getattr(tokenizer, "encode", None)
    if not callable(encode) or isinstance(tokenizer, str):
        raise WrongTypeError(
            f"The tokenizer is {shown(tokenizer)}. An object with a method encode(text) is "
            "expected, such as tiktoken.get_encoding('gpt2')."
        )
    if _takes_allowed_special(encode):
        lacks_it = isinstance(tokenizer, Tokenizer) and END_OF_TEXT not in tokenizer.special_tokens
        return check_ids(encode(text, allowed_special=set() if lacks_it else {END_OF_TEXT}))
    return check_ids(encode(text))


def _takes_allowed_special(encode: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(encode).parameters
    except (TypeError, ValueError):  # a compiled function without a signature
        return True
    if "allowed_special" in parameters:
        return True
    # A wrapper around another tokenizer passes it on. Hugging Face's encode takes any keyword too,
    # and warns of this one; `text_pair` is how to recognize it.
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return passes_on and "text_pair" not in parameters


@own_checks
def check_ids(found: Any) -> NDArray[np.integer]:
    """Check what a tokenizer returned, and store it in the smallest type of a token store.

    Raises:
        UserError: It is no list of token ids.
    """
    found = getattr(found, "ids", found)  # the Encoding of the tokenizers library
    if isinstance(found, Tensor):
        found = found.detach().cpu().numpy()
    if not isinstance(found, (list, tuple, np.ndarray)):
        raise WrongTypeError(
            f"The tokenizer's encode returned {shown(found)}. A list of token ids is expected."
        )
    if len(found) == 0:
        return np.empty(0, dtype=token_dtype(0))
    try:
        ids = np.asarray(found)
    except ValueError:  # lists of different lengths
        ids = np.empty((0, 0))
    if ids.ndim != 1:
        raise WrongTypeError(
            "The tokenizer's encode returned nested lists. One list of token ids is expected."
        )
    # numpy would store [True, 2] as [1, 2].
    types = set(map(type, found)) if not isinstance(found, np.ndarray) else set()
    if ids.dtype.kind not in "iu" or types & {bool, np.bool_}:
        wrong = (int, np.integer)
        place, item = next(
            (
                (i, item)
                for i, item in enumerate(found)
                if isinstance(item, bool)
                or not isinstance(item, wrong)
                or not 0 <= int(item) <= _MAX_ID
            ),
            (0, found[0]),
        )
        raise _no_id(item, place)
    if ids.min() < 0 or ids.max() > _MAX_ID:
        place = int(np.argmax((ids < 0) | (ids > _MAX_ID)))
        raise _no_id(ids[place], place)
    return ids.astype(token_dtype(int(ids.max()) + 1))


def _no_id(item: Any, place: int) -> UserError:
    item = item.item() if isinstance(item, np.generic) else item
    return UserError(
        f"The tokenizer's encode returned {shown(item)} at position {place}. Token ids are whole "
        f"numbers from 0 to {_MAX_ID:,}."
    )
