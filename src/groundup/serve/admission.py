"""Which requests are taken: limits of one request, and how many may wait for rows and memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from groundup.base.arguments import whole_number
from groundup.base.errors import UserError
from groundup.generation.engine import Engine, Handle
from groundup.generation.request import Request
from groundup.generation.sequence import TextSequence


class Busy(Exception):  # noqa: N818
    """The server has no room for a request now.

    Args:
        message: Whole sentences for the client.
        retry_after_s: When room is expected, in whole seconds, at least 1.
    """

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        self.message, self.retry_after_s = message, retry_after_s
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request, and of those that wait.

    Raises:
        UserError: A limit is below 1.
    """

    prompt_tokens: int | None = None
    """Maximum number of tokens in a prompt. None: the context of the model."""
    answer_tokens: int | None = None
    """Maximum number of new tokens of one text. None: what fits in the context."""
    time_s: float | int | None = None
    """Maximum time of a request in seconds, with the time that it waits. Then it ends with the text
    so far and the finish reason "length", which clients treat as an answer that was cut off. None:
    no limit."""
    n_waiting: int = 64
    """Maximum number of texts that wait until there is room for them. Further requests are refused
    until then."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("prompt_tokens", "answer_tokens"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name))
        whole_number("n_waiting", self.n_waiting, at_least=0)
        if self.time_s is not None and not 0 < self.time_s < math.inf:
            raise UserError(f"time_s is {self.time_s}. A number of seconds above 0 is expected.")


class Admission:
    """Decides whether a request is taken.

    A request is taken if its longest answers fit beside those that are being generated, or if few
    enough texts wait for it.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def check(
        self, request: Request, opened: Sequence[Handle], engine: Engine, step_s: float
    ) -> None:
        """Check that a request can be taken.

        Args:
            request: The new request. It was checked for this model.
            opened: The requests that were taken before and have not ended, in order.
            engine: Has the limits of rows and memory.
            step_s: How long a step of the engine takes now, in seconds.

        Raises:
            UserError: The request is beyond a limit, and will be whenever it is sent.
            Busy: Too many texts wait already.
        """
        self._check_limits(request)
        texts = [s for handle in opened for s in handle.sequences if s.finish_reason is None]
        sizes = [text.most_positions for text in texts] + _sizes([request], engine)
        n_fit = fitting(engine, sizes)
        n_beyond = len(sizes) - n_fit - self.limits.n_waiting
        if n_beyond <= 0:
            return
        self.check_room([request], engine)
        n_running = min(n_fit, len(texts))  # the texts of this request may fit beside them
        wait_s = math.ceil(_next_end(texts[:n_fit], n_beyond) * step_s)
        raise Busy(
            f"The server generates {n_running} texts, and {len(texts) - n_running} wait. Send the "
            f"request again in {max(1, wait_s)} s.",
            retry_after_s=max(1, wait_s),
        )

    def check_room(self, requests: Sequence[Request], engine: Engine) -> None:
        """Check that an idle server generates the texts of requests, or lets them wait.

        Args:
            requests: The requests, which are sent together and have the same n.
            engine: Has the limits of rows and memory.

        Raises:
            UserError: It has no room for all of them.
        """
        n, n_prompts = requests[0].n, len(requests)
        n_room = fitting(engine, _sizes(requests, engine)) + self.limits.n_waiting
        if n * n_prompts <= n_room:
            return
        texts = f"n is {n}"
        if n_prompts > 1:
            texts = f"prompt has {n_prompts} prompts and {texts}, which makes {n * n_prompts} texts"
        raise UserError(f"{texts}. The server has room for {n_room} texts of this length.")

    def _check_limits(self, request: Request) -> None:
        limits = self.limits
        if limits.prompt_tokens is not None and len(request.ids) > limits.prompt_tokens:
            raise UserError(
                f"The prompt has {len(request.ids):,} tokens, and the server takes prompts of up "
                f"to {limits.prompt_tokens:,}. A shorter prompt is expected."
            )
        if limits.answer_tokens is not None and request.max_new_tokens > limits.answer_tokens:
            raise UserError(
                f"max_new_tokens is {request.max_new_tokens:,}, and the server generates up to "
                f"{limits.answer_tokens:,}. A smaller number is expected."
            )


def fitting(engine: Engine, sizes: Sequence[int]) -> int:
    """How many of these texts, in order, fit in the rows and the memory of an engine.

    Args:
        engine: Has the limits.
        sizes: Number of positions of each text.
    """
    n_left = math.inf if engine.max_cache_bytes is None else engine.max_cache_bytes
    for n_fit, size in enumerate(sizes[: engine.max_rows]):
        n_left -= engine.decoder.row_bytes(size)
        if n_left < 0:
            return n_fit
    return min(len(sizes), engine.max_rows)


def _sizes(requests: Sequence[Request], engine: Engine) -> list[int]:
    """Number of positions of each text of requests, at most."""
    context = engine.decoder.config.context_length
    return [
        min(len(request.ids) + request.max_new_tokens, context)
        for request in requests
        for _ in range(request.n)
    ]


def _next_end(texts: Sequence[TextSequence], n: int) -> int:
    """Number of steps until n of the texts have ended at the latest."""
    left = sorted(text.n_left for text in texts)
    return left[min(n, len(left)) - 1] if left else 1
