"""Answer a request for a completion: whole, or as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from groundup.generation.engine import Event
from groundup.generation.request import Request
from groundup.serve.answers import Form
from groundup.serve.errors import ApiError, as_api_error, json_response
from groundup.serve.listening import Listening
from groundup.serve.prompts import Prepared, prepare
from groundup.serve.requests import ChatForm, GenerationForm
from groundup.serve.served_model import ServedModel
from groundup.serve.worker import Worker

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Answer(Listening):
    """The answer to a request for a completion.

    Args:
        form: The request.
        served: The model.
    """

    def __init__(self, form: GenerationForm, served: ServedModel) -> None:
        super().__init__()
        self._form, self._served = form, served
        self._wait: asyncio.Timeout | None = None
        self._is_ended = False

    def end(self) -> None:
        """End the answer now, because the server stops."""
        self._is_ended = True
        if self._wait is not None:
            self._wait.reschedule(0.0)

    async def work(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generate, and send the answer."""
        self._served.open_answers.add(self.end)
        try:
            await self._generate(scope, receive, send)
        finally:
            self._served.open_answers.discard(self.end)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        prepared = await asyncio.to_thread(prepare, self._form, self._served)
        form = Form(
            self._served,
            is_chat=isinstance(self._form, ChatForm),
            n_choices=self._form.n_texts * len(prepared.requests),
            n_logprobs=self._form.n_logprobs,
            has_usage=self._form.has_usage,
        )
        chunks = self._chunks(form, prepared)
        async with aclosing(chunks):
            if self._form.stream:
                await self._stream(chunks, send)
                return
            async for _ in chunks:
                pass
        answer = json_response(form.whole(prepared.n_prompt_tokens))
        await answer(scope, receive, send)

    async def _chunks(self, form: Form, prepared: Prepared) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of a stream while the answer is generated.

        Raises:
            ApiError: No token can be drawn, or the server stops.
        """
        n = self._form.n_texts
        async with aclosing(_merged(self._served.worker, prepared.requests)) as events:
            while not form.is_complete:
                place, event = await self._next(events)
                if event.finish_reason == "cancelled":
                    raise _stopping()
                if event.finish_reason == "error":
                    raise as_api_error(event.error or RuntimeError())
                for chunk in form.add(n * place + event.index, event):
                    yield chunk
        if form.has_usage:
            yield form.usage_chunk(prepared.n_prompt_tokens)

    async def _next(self, events: AsyncIterator[tuple[int, Event]]) -> tuple[int, Event]:
        """Wait for the next event, unless the server stops."""
        try:
            async with asyncio.timeout(None) as self._wait:
                if not self._is_ended:
                    return await anext(events)
        except TimeoutError:
            pass
        finally:
            self._wait = None
        raise _stopping()

    async def _stream(self, chunks: AsyncIterator[dict[str, Any]], send: Send) -> None:
        """Send the chunks as server-sent events. An error after the first one is an event, too."""
        has_started = False
        try:
            async for chunk in chunks:
                if not has_started:
                    has_started = True
                    headers = [(k.encode(), v.encode()) for k, v in _STREAM_HEADERS.items()]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                await _send_event(send, orjson.dumps(chunk))
        except Exception as error:
            if not has_started:
                raise
            await _send_event(send, orjson.dumps(as_api_error(error).body))
        await _send_event(send, b"[DONE]")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _stopping() -> ApiError:
    return ApiError("The server is stopping, and the answer is not complete.", status=503)


async def _send_event(send: Send, data: bytes) -> None:
    body = b"data: " + data + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _merged(worker: Worker, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Event]]:
    """Yield the events of several requests, each with the place of its request."""
    if len(requests) == 1:
        async with aclosing(worker.generate(requests[0])) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Event] | Exception] = asyncio.Queue()

    async def read(place: int, request: Request) -> None:
        try:
            async with aclosing(worker.generate(request)) as events:
                async for event in events:
                    queue.put_nowait((place, event))
        except Exception as error:
            queue.put_nowait(error)

    readers = [asyncio.create_task(read(place, each)) for place, each in enumerate(requests)]
    n_texts = sum(request.n for request in requests)
    try:
        while n_texts:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            n_texts -= item[1].finish_reason is not None
            yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
