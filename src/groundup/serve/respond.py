"""Answer a request for a completion: whole, or as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from groundup.generation.engine import Event
from groundup.generation.request import Request
from groundup.serve.answers import AnswerWriter
from groundup.serve.errors import as_api_error, json_response
from groundup.serve.listening import Answering, stopping
from groundup.serve.prompts import Prepared, prepare
from groundup.serve.requests import ChatForm, GenerationForm
from groundup.serve.served_model import ServedModel
from groundup.serve.worker import Worker

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Answer(Answering):
    """The answer to a request for a completion.

    Args:
        form: The request.
        served: The model.
    """

    def __init__(self, form: GenerationForm, served: ServedModel) -> None:
        super().__init__(served)
        self._form = form

    async def generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generate, and send the answer whole or in chunks."""
        prepared = await asyncio.to_thread(prepare, self._form, self.served)
        writer = AnswerWriter(
            self.served,
            is_chat=isinstance(self._form, ChatForm),
            n_choices=self._form.n_texts * len(prepared.requests),
            n_logprobs=self._form.n_logprobs,
            has_usage=self._form.has_usage,
        )
        chunks = self._chunks(writer, prepared)
        async with aclosing(chunks):
            if self._form.stream:
                await self._stream(chunks, send)
                return
            async for _ in chunks:
                pass
        answer = json_response(writer.whole(prepared.n_prompt_tokens))
        await answer(scope, receive, send)

    async def _chunks(
        self, writer: AnswerWriter, prepared: Prepared
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a stream while the answer is generated.

        Raises:
            ApiError: No token can be drawn, or the server stops.
        """
        n = self._form.n_texts
        async with aclosing(_merged(self.served.worker, prepared.requests)) as events:
            while not writer.is_complete:
                place, event = await self.next_event(events)
                if event.finish_reason == "cancelled":
                    raise stopping()
                if event.finish_reason == "error":
                    raise as_api_error(event.error or RuntimeError())
                for chunk in writer.add(n * place + event.index, event):
                    yield chunk
        if writer.has_usage:
            yield writer.usage_chunk(prepared.n_prompt_tokens)

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


async def _send_event(send: Send, data: bytes) -> None:
    body = b"data: " + data + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _merged(
    worker: Worker, requests: Sequence[Request]
) -> AsyncGenerator[tuple[int, Event], None]:
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
