"""An answer of the page: its prompt, its tokens with their rivals, and why it ended."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from groundup.generation.engine import Event
from groundup.generation.request import Request, Sampling
from groundup.serve.page_prompt import END_OF_SPEECH
from groundup.serve.page_tokens import N_RIVALS, AnswerText, TokenNames

Generate = Callable[[Request], AsyncIterator[Event]]
"""Generates for a request; closing the iterator cancels it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is generated for one request of the page."""

    names: TokenNames
    prompt: Sequence[int]
    begun: Sequence[int]
    """The tokens that the answer begins with, those of an answer before."""
    stop_ids: Collection[int]
    context_length: int
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
            logprobs=N_RIVALS,
        )

    async def events(self, generate: Generate) -> AsyncIterator[dict[str, Any]]:
        """Yield the prompt, then each token, then why the answer ended.

        The prompt is yielded with the first token, so that what the engine raises comes before.
        """
        text = self.names.text_of(is_reply=self.is_reply)
        for index in self.begun:
            text.push(index)
        is_first, n_left = True, self.context_length - len(self.prompt) - len(self.begun)
        async with aclosing(generate(self.request)) as events:  # type: ignore[type-var]
            async for event in events:
                if is_first:
                    yield {"prompt": self.names.all(self.prompt)}
                    is_first = False
                for token in event.tokens:
                    n_left -= 1
                    yield {"token": text.shown(token)}
                    if self._is_over(token.id, text):
                        yield {"end": "stop"}
                        return
                if event.error is not None:
                    raise event.error
                if event.finish_reason is not None:
                    yield {"end": "context" if n_left < 0 else event.finish_reason}

    def _is_over(self, token: int, text: AnswerText) -> bool:
        is_spoken = self.is_speech and END_OF_SPEECH in text.text.lstrip("\n")
        return is_spoken or token in self.stop_ids
