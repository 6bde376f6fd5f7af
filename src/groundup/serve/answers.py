"""The answers of OpenAI's API: whole ones, and the chunks of a stream."""

import codecs
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from groundup.generation.engine import Event
from groundup.generation.sampler import Token
from groundup.serve.served_model import ServedModel

LEAST_LOGPROB = -9999.0
"""JSON has no infinity."""


_TEXT_KEYS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@dataclass
class Choice:
    """One of the texts of an answer while it is generated."""

    index: int
    text: str = ""
    n_tokens: int = 0
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """An entry for each token, if they were asked for."""
    n_characters: int = 0
    """Whole characters of the tokens so far. They may be more than the text: stop strings."""
    drops_space: bool = False
    """Whether the text begins with a space that is no part of it, and has not come yet."""
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("ignore")
    )


class AnswerWriter:
    """Writes the answers to one request.

    Args:
        served: The model.
        is_chat: Whether it is a conversation, or else the continuation of a text.
        n_choices: Number of texts.
        n_logprobs: Number of likely tokens to list. None: no log-probabilities.
        has_usage: Whether the stream ends with the numbers of tokens.
    """

    def __init__(
        self,
        served: ServedModel,
        *,
        is_chat: bool,
        n_choices: int,
        n_logprobs: int | None,
        has_usage: bool,
    ) -> None:
        self.is_chat, self.has_usage, self._n_logprobs = is_chat, has_usage, n_logprobs
        drops_space = is_chat and served.answers_begin_with_space
        self.choices = [Choice(index, drops_space=drops_space) for index in range(n_choices)]
        self._token_bytes = served.token_bytes
        self._about = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": served.fingerprint,
        }

    @property
    def is_complete(self) -> bool:
        """Whether all texts have ended."""
        return all(choice.finish_reason is not None for choice in self.choices)

    def add(self, index: int, event: Event) -> list[dict[str, Any]]:
        """Take what is new of a text; return its chunks, which a whole answer has no use for."""
        choice, text = self.choices[index], event.text
        is_first = choice.n_tokens == 0
        if text and choice.drops_space:
            text, choice.drops_space = text.removeprefix(" "), False
        choice.text += text
        choice.n_tokens += len(event.tokens)
        choice.finish_reason = event.finish_reason
        entries = []
        if self._n_logprobs is not None:
            entries = [self._entry(choice, token) for token in event.tokens]
            choice.logprobs += entries
        chunks = []
        if text or event.tokens:
            chunks.append(self._chunk(choice, text, self._logprobs(entries), is_first=is_first))
        if event.finish_reason is not None:
            chunks.append(self.last_chunk(choice))
        return chunks

    def last_chunk(self, choice: Choice) -> dict[str, Any]:
        """The chunk that says why a text ended."""
        return self._chunk(choice, "", None, is_first=choice.n_tokens == 0, is_last=True)

    def usage_chunk(self, n_prompt_tokens: int) -> dict[str, Any]:
        """The chunk after all others, with the numbers of tokens."""
        return {
            **self._about,
            "object": "chat.completion.chunk" if self.is_chat else "text_completion",
            "choices": [],
            "usage": self._usage(n_prompt_tokens),
        }

    def whole(self, n_prompt_tokens: int) -> dict[str, Any]:
        """The whole answer."""
        choices: list[dict[str, Any]] = []
        for choice in self.choices:
            message = {"role": "assistant", "content": choice.text, "refusal": None}
            about = {"message": message} if self.is_chat else {"text": choice.text}
            choices.append(
                {
                    "index": choice.index,
                    **about,
                    "logprobs": self._logprobs(choice.logprobs),
                    "finish_reason": choice.finish_reason,
                }
            )
        return {
            **self._about,
            "object": "chat.completion" if self.is_chat else "text_completion",
            "choices": choices,
            "usage": self._usage(n_prompt_tokens),
        }

    def _chunk(
        self,
        choice: Choice,
        text: str,
        logprobs: dict[str, Any] | None,
        *,
        is_first: bool,
        is_last: bool = False,
    ) -> dict[str, Any]:
        about: dict[str, Any] = {"text": text}
        if self.is_chat:
            role = {"role": "assistant"} if is_first else {}
            about = {"delta": role if is_last else {**role, "content": text}}
        reason = choice.finish_reason if is_last else None
        entry = {"index": choice.index, **about, "logprobs": logprobs, "finish_reason": reason}
        usage = {"usage": None} if self.has_usage else {}
        return {
            **self._about,
            "object": "chat.completion.chunk" if self.is_chat else "text_completion",
            "choices": [entry],
            **usage,
        }

    def _usage(self, n_prompt_tokens: int) -> dict[str, int]:
        n_new = sum(choice.n_tokens for choice in self.choices)
        return {
            "prompt_tokens": n_prompt_tokens,
            "completion_tokens": n_new,
            "total_tokens": n_prompt_tokens + n_new,
        }

    def _entry(self, choice: Choice, token: Token) -> dict[str, Any]:
        """The log-probabilities of a token."""
        if self.is_chat:
            return chat_entry(token, self._token_bytes, self._n_logprobs or 0)
        offset = choice.n_characters
        choice.n_characters += len(choice.decoder.decode(self._token_bytes(token.id)))
        return text_entry(token, self._token_bytes, self._n_logprobs or 0, offset)

    def _logprobs(self, entries: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        if self._n_logprobs is None:
            return None
        if self.is_chat:
            return {"content": entries, "refusal": None}
        return {key: [entry[key] for entry in entries] for key in _TEXT_KEYS}


def chat_entry(token: Token, token_bytes: Callable[[int], bytes], n_top: int) -> dict[str, Any]:
    """Write the log-probabilities of a token as chat completions have them."""

    def entry(index: int, logprob: float) -> dict[str, Any]:
        raw = token_bytes(index)
        return {
            "token": raw.decode("utf-8", "replace"),
            "logprob": max(logprob, LEAST_LOGPROB),
            "bytes": list(raw),
        }

    found = token.logprobs
    assert found is not None
    top = [entry(i, logprob) for i, logprob in found.top] if n_top else []
    return {**entry(token.id, found.drawn), "top_logprobs": top}


def text_entry(
    token: Token, token_bytes: Callable[[int], bytes], n_top: int, offset: int
) -> dict[str, Any]:
    """Write the log-probabilities of a token as completions have them, under the same names.

    A token that is no valid UTF-8 is written as in OpenAI's API.

    >>> from groundup.generation.sampler import TokenLogprobs
    >>> token = Token(0, TokenLogprobs(-0.5, ((0, -0.5),)))
    >>> print(text_entry(token, lambda i: bytes([240, 159]), 0, 7)["tokens"])
    bytes:\\xf0\\x9f
    """
    found = token.logprobs
    assert found is not None
    listed = found.top if n_top else ()
    top = {_written(token_bytes(i)): max(logprob, LEAST_LOGPROB) for i, logprob in listed}
    return {
        "tokens": _written(token_bytes(token.id)),
        "token_logprobs": max(found.drawn, LEAST_LOGPROB),
        "top_logprobs": top or None,
        "text_offset": offset,
    }


def _written(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
