"""An answer of the page: its prompt, its tokens with their alternatives, and why it ended."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from groundup.generation.request import Request, Sampling
from groundup.serve.errors import as_api_error
from groundup.serve.listening import Answering, stopping
from groundup.serve.page_prompt import END_OF_SPEECH
from groundup.serve.page_tokens import N_ALTERNATIVES, AnswerText, TokenNames
from groundup.serve.served_model import ServedModel

_HEADERS = [
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the page asks to generate."""

    prompt: Sequence[int]
    begun: Sequence[int]
    """The tokens that the answer begins with, those of an answer before."""
    max_new_tokens: int
    sampling: Sampling
    is_reply: bool
    """Whether it answers a message, and is not the continuation of a text."""
    is_speech: bool
    """Whether a blank line ends it."""

    @property
    def request(self) -> Request:
        """The request to the engine: the token that ends the text is generated like the others."""
        return Request(
            ids=[*self.prompt, *self.begun],
            max_new_tokens=self.max_new_tokens,
            sampling=self.sampling,
            logprobs=N_ALTERNATIVES,
        )


class PageAnswer(Answering):
    """Lines of JSON: the prompt, each token, and why the answer ended.

    The prompt is sent with the first token, so that what the engine refuses is an error instead.

    Args:
        ask: Prepares the request, in another thread.
        served: The model.
        names: Names its tokens.
    """

    def __init__(self, ask: Callable[[], Asked], served: ServedModel, names: TokenNames) -> None:
        super().__init__(served)
        self._ask, self._names = ask, names

    async def generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a line for each event."""
        has_started = False
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if not has_started:
                        has_started = True
                        start = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
                        await send(start)
                    await _send_line(send, event)
        except Exception as error:
            if not has_started:
                raise
            await _send_line(send, as_api_error(error).body)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[dict[str, Any], None]:
        asked = await asyncio.to_thread(self._ask)
        text = self._names.text_of(is_reply=asked.is_reply)
        for index in asked.begun:
            text.push(index)
        request, is_first = asked.request, True
        n_left = self.served.context_length - len(request.ids)
        async with aclosing(self.served.worker.generate(request)) as events:
            while True:
                event = await self.next_event(events)
                if is_first:
                    yield {"prompt": self._names.all(asked.prompt)}
                    is_first = False
                for token in event.tokens:
                    n_left -= 1
                    yield {"token": text.shown(token)}
                    if self._is_over(token.id, text, asked):
                        event.handle.end("stop")
                        yield {"end": "stop"}
                        return
                if event.error is not None:
                    raise event.error
                if event.finish_reason == "cancelled":
                    raise stopping()
                if event.finish_reason is not None:
                    yield {"end": "context" if n_left < 0 else event.finish_reason}
                    return

    def _is_over(self, token: int, text: AnswerText, asked: Asked) -> bool:
        is_spoken = asked.is_speech and END_OF_SPEECH in text.text.lstrip("\n")
        return is_spoken or token in self.served.model.stop_ids


async def _send_line(send: Send, content: dict[str, Any]) -> None:
    body = orjson.dumps(content) + b"\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
