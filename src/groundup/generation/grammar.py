"""Constraints to a JSON schema or a regular expression, with the library llguidance."""

import json
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.base.arguments import shown
from groundup.base.errors import UserError
from groundup.base.extras import needed

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space is fixed: otherwise a model can write nothing else for ever."""
_CLOSING = [bytes([byte]) for byte in b'"}],:01ntf[{']
"""Tokens that end a JSON text soon, the best first."""
MOST_SCHEMA_BYTES = 16_384
"""Size of a JSON schema. llguidance needs up to a second and 50 MB for one of this size."""
MOST_MULTIPLE = 20_000
"""Least common multiple of the `multipleOf` of a schema: its automaton has this many states."""
_LEXER_FUEL = 200_000
"""A fifth of the default of llguidance, which may take four seconds."""
_LONGEST_ENDING = 500
_LONGEST_REASON = 150
_RESERVE = 16


class GrammarTokens:
    """The tokens of a model, in the form that llguidance reads. It is made once for a model.

    Args:
        tokens: The bytes of each token, as many as the logits have.
        special_ids: Ids that are no text.

    Raises:
        UserError: llguidance is not installed.
    """

    def __init__(self, tokens: Sequence[bytes], *, special_ids: Collection[int] = ()) -> None:
        llguidance = _llguidance()
        self.n_tokens = len(tokens)
        hidden = frozenset(special_ids)
        texts = [b"" if i in hidden else token for i, token in enumerate(tokens)]
        by_bytes = {token: i for i, token in reversed(list(enumerate(texts)))}
        self.closing_ids = [by_bytes[token] for token in _CLOSING if token in by_bytes]
        self.widths = np.array([len(token) for token in texts])
        # One more token is the end of text: a model may have several of them, or none.
        adapter = _Adapter([*texts, b""])
        self.tokenizer = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(adapter), n_vocab=len(texts) + 1, eos_token=len(texts)
        )

    def json_schema(self, schema: Mapping[str, Any] | str) -> Callable[[], "Grammar"]:
        """Make constraints to the JSON texts that a schema describes.

        Raises:
            UserError: The schema is not JSON, is too large, or has keywords that llguidance does
                not support.
        """
        what = "The JSON schema cannot be used."
        try:
            text = schema if isinstance(schema, str) else json.dumps(schema)
            _check_size(text)
            grammar = _llguidance().LLMatcher.grammar_from_json_schema(text, defaults=_COMPACT)
        except UserError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"{what} {error}") from error
        return self._checked(grammar, what)

    def regex(self, pattern: str) -> Callable[[], "Grammar"]:
        """Make constraints to the texts that a regular expression matches from start to end.

        Raises:
            UserError: The expression is invalid, or looks ahead or behind.
        """
        grammar = _llguidance().LLMatcher.grammar_from_regex(pattern)
        return self._checked(grammar, "The regular expression cannot be used.")

    def _checked(self, grammar: str, what: str) -> Callable[[], "Grammar"]:
        llguidance = _llguidance()
        limits = llguidance.LLParserLimits(initial_lexer_fuel=_LEXER_FUEL, verbose_errors=False)
        first = llguidance.LLMatcher(self.tokenizer, grammar, log_level=0, limits=limits)
        if first.is_error():
            raise UserError(f"{what} {_reason(first)}")
        # Some errors occur only where the tokens are compared with the grammar.
        Grammar(self, first.deep_copy()).allowed(1)
        return lambda: Grammar(self, first.deep_copy())


class Grammar:
    """The constraint of one text.

    Where few tokens are left the text is ended: only tokens on a short way to its end are allowed.
    """

    def __init__(self, tokens: GrammarTokens, matcher: Any) -> None:
        self._tokens = tokens
        self._matcher = matcher
        self._mask = torch.zeros(tokens.n_tokens // 32 + 1, dtype=torch.int32)
        self._check_at: int | None = None
        self._ending: list[int] | None = None

    def allowed(self, n_left: int) -> Tensor:
        """Return which tokens may come next, (V,) bool.

        Raises:
            UserError: The grammar is too complex.
        """
        if self._check_at is None or n_left <= self._check_at:
            self._plan(n_left)
        if self._ending is not None:
            mask = torch.zeros(self._tokens.n_tokens, dtype=torch.bool)
            mask[self._ending[:1]] = True
            del self._ending[:1]
            return mask
        return torch.from_numpy(self._allowed(self._matcher))

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        return bool(self._matcher.is_accepting())

    @property
    def must_end(self) -> bool:
        """Whether it is, and nothing may follow."""
        return self.may_end and bool(self._matcher.is_stopped())

    def accept(self, token: int) -> None:
        """Add a token to the text."""
        self._matcher.consume_token(token)

    def _allowed(self, matcher: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
        matcher.unsafe_compute_mask_ptr(self._mask.data_ptr(), 4 * len(self._mask))
        if matcher.is_error():
            raise UserError(f"The grammar cannot be followed. {_reason(matcher)}")
        words = self._mask.numpy()
        words = words if sys.byteorder == "little" else words.byteswap()
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        return bits[: self._tokens.n_tokens].astype(np.bool_)

    def _plan(self, n_left: int) -> None:
        """Find a short ending, and decide whether it is time for it."""
        if self._ending is not None:
            return
        ending = self._short_ending()
        n_needed = 0 if ending is None else 3 * len(ending) // 2 + _RESERVE
        # A token may make the ending longer, for example one that opens a list.
        if ending is None or n_left > n_needed:
            self._check_at = n_left - max(1, (n_left - n_needed) // 4)
        else:
            self._check_at, self._ending = 0, ending

    def _short_ending(self) -> list[int] | None:
        """Tokens that complete the text, not always the fewest; None if none are found."""
        matcher, path = self._matcher.deep_copy(), list[int]()
        while not matcher.is_accepting():
            mask = self._allowed(matcher)
            closing = (token for token in self._tokens.closing_ids if mask[token])
            # Without one, something fixed is left to write, such as a key: long tokens are fewest.
            token = next(closing, int((self._tokens.widths * mask).argmax()))
            if not mask[token] or len(path) == _LONGEST_ENDING:
                return None
            matcher.consume_token(token)
            path.append(token)
        return path


def _reason(matcher: Any) -> str:
    """Why a matcher failed. The lines in the middle of the message repeat the grammar."""
    lines = str(matcher.get_error()).strip().splitlines() or ["unknown error"]
    first, last = (line.strip()[:_LONGEST_REASON] for line in (lines[0], lines[-1]))
    return (f"{first} {last}" if first.endswith(":") else first).rstrip(".") + "."


def _check_size(schema: str) -> None:
    """Refuse a JSON schema for which llguidance needs much time or memory."""
    n_bytes = len(schema.encode())
    if n_bytes > MOST_SCHEMA_BYTES:
        raise UserError(
            f"The JSON schema has {n_bytes:,} bytes. At most {MOST_SCHEMA_BYTES:,} are expected."
        )
    multiple = math.lcm(*_multiples(json.loads(schema)))
    if multiple > MOST_MULTIPLE:
        raise UserError(
            f"The least common multiple of multipleOf in the JSON schema is {shown(multiple)}. At "
            f"most {MOST_MULTIPLE:,} is expected."
        )


def _multiples(schema: Any) -> Iterator[int]:
    """The values of `multipleOf` without the decimal point.

    >>> list(_multiples({"items": {"multipleOf": 0.25}, "multipleOf": 30}))
    [30, 25]
    """
    parts: Any = schema if isinstance(schema, list) else ()
    if isinstance(schema, dict):
        parts = schema.values()
        value = schema.get("multipleOf")
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole or (isinstance(value, float) and math.isfinite(value)):
            number = Decimal(str(value)).normalize()
            exponent = int(number.as_tuple().exponent)
            yield abs(int(number.scaleb(-min(exponent, 0))))
    for part in parts:
        yield from _multiples(part)


class _Adapter:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes]) -> None:
        self.tokens = tokens
        self.eos_token_id = len(tokens) - 1
        self.special_token_ids = [self.eos_token_id]
        self._single = {token[0]: i for i, token in enumerate(tokens) if len(token) == 1}

    def __call__(self, text: bytes) -> list[int]:
        """Encode text in single bytes; llguidance needs some encoding."""
        return [self._single[byte] for byte in text if byte in self._single]


def _llguidance() -> Any:
    return needed("llguidance", "structured", "JSON schemas and regular expressions")
