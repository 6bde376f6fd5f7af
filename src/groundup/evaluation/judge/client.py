"""Ask a model on an OpenAI-compatible server, several questions at a time.

A request is repeated where the server is busy, fails or does not answer in time. The key is sent in
a header only: no redirect is followed, and it is removed from every message.
"""

import http.client
import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from groundup.base.errors import UsageError, UserError
from groundup.evaluation.judge.question import Messages

_BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_WAIT_S = 60.0
_LONGEST_REPLY_BYTES = 2**24


def _parts_of(url: str) -> SplitResult | None:
    """Split a URL; None if it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port of letters is refused here
    except ValueError:
        return None
    return parts if url.isascii() and url.isprintable() and " " not in url else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **keywords: Any) -> None:
        """Refuse: the key must not go to another server."""


class _TryAgainError(Exception):
    """The server may answer later."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class ChatClient:
    """A model on a server.

    Args:
        url: The URL of the server, to which /chat/completions is added.
        model: The name of the model.
        key: The key. Empty: none is sent.
        timeout_s: Longest time to wait for a reply.
        retries: How often a request is repeated.
        max_tokens: Maximum length of a reply.
        first_wait_s: Time before the first repetition; each further one takes twice as long.

    Raises:
        UsageError: The URL or the key is not valid.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "",
        timeout_s: float = 120.0,
        retries: int = 4,
        max_tokens: int = 512,
        first_wait_s: float = 1.0,
    ) -> None:
        parts = _parts_of(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"The URL of the server is {url!r}. One that begins with http:// or https:// is "
                "expected.",
                settings={"url": "http://localhost:8000/v1"},
            )
        if parts.username or parts.password:
            raise UsageError(
                "The URL of the server contains a name or a password. A URL without them is "
                "expected; the key is read from an environment variable.",
            )
        if not key.isascii() or not key.isprintable():
            raise UsageError("The key of the server contains a character that no key has.")
        self.url = url.rstrip("/") + "/chat/completions"
        self.model = model
        self._key = key
        self._timeout_s, self._retries, self._max_tokens = timeout_s, retries, max_tokens
        self._first_wait_s = first_wait_s
        self._opener = urllib.request.build_opener(_NoRedirect())
        self._stopped = threading.Event()

    def body(self, messages: Messages) -> dict[str, Any]:
        """The request for some messages, without the key."""
        return {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }

    def ask(self, messages: Messages) -> str:
        """Return the reply to some messages.

        Raises:
            UserError: The server refuses the request, or still fails after all repetitions.
        """
        why, wait_s = "", self._first_wait_s
        for left in reversed(range(self._retries + 1)):
            try:
                return self._asked_once(messages)
            except _TryAgainError as error:
                why = str(error)
                longer = error.wait_s if error.wait_s is not None else wait_s
                if not left or self._stopped.wait(min(longer, _LONGEST_WAIT_S)):
                    break
                wait_s *= 2
        raise UserError(
            f"The server did not answer after {self._retries + 1} "
            f"request{'s' * (self._retries > 0)}: {self._hidden(why)}.",
            where=self.url,
        )

    def ask_all(
        self,
        questions: Mapping[str, Messages],
        on_reply: Callable[[str, str], None],
        *,
        concurrency: int = 4,
    ) -> None:
        """Ask many questions; replies are given as they come, in this thread.

        Raises:
            UserError: As `ask`. Replies to requests that were sent before are given first.
        """
        open_questions = queue.SimpleQueue[tuple[str, Messages]]()
        for question in questions.items():
            open_questions.put(question)
        replies = queue.SimpleQueue[tuple[str, str | Exception]]()
        self._stopped.clear()

        def work() -> None:
            while not self._stopped.is_set():
                try:
                    key, messages = open_questions.get_nowait()
                except queue.Empty:
                    return
                try:
                    replies.put((key, self.ask(messages)))
                except Exception as error:
                    replies.put((key, error))
                    return

        # Daemons: Ctrl-C does not wait for a server that does not answer.
        workers = [threading.Thread(target=work, daemon=True) for _ in range(concurrency)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(len(questions)):
                key, reply = replies.get()
                if isinstance(reply, Exception):
                    self._stopped.set()
                    for worker in workers:
                        worker.join()
                    raise reply
                on_reply(key, reply)
        finally:
            self._stopped.set()
            while not replies.empty():  # what was paid for is kept
                key, reply = replies.get()
                if isinstance(reply, str):
                    on_reply(key, reply)

    def _asked_once(self, messages: Messages) -> str:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(self.body(messages)).encode()
        request = urllib.request.Request(self.url, data, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                content = response.read(_LONGEST_REPLY_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error, self._start_of(error)) from error
        except TimeoutError as error:
            raise _TryAgainError(f"no reply within {self._timeout_s:g} s") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _TryAgainError(f"no reply within {self._timeout_s:g} s") from error
            raise _TryAgainError(f"it cannot be reached ({error.reason})") from error
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(f"the connection broke ({type(error).__name__})") from error
        return _reply_of(content)

    def _refused(self, error: urllib.error.HTTPError, start: str) -> Exception:
        """What to do about a reply with an error status."""
        if error.code in _BUSY:
            after = error.headers.get("Retry-After", "")
            wait_s = float(after) if after.isdecimal() else None
            return _TryAgainError(f"status {error.code}{start}", wait_s)
        said = self._hidden(f"status {error.code}{start}")
        if error.code in (401, 403):
            what = "refuses the key" if self._key else "asks for a key, and none was sent"
            return UserError(f"The server {what} ({said}).", where=self.url)
        if error.code == 404:
            return UserError(
                f"The server does not know this address or the model {self.model!r} ({said}).",
                where=self.url,
            )
        if 300 <= error.code < 400:
            return UserError(
                f"The server sends to another address ({error.headers.get('Location')}). Its own "
                "URL is expected.",
                where=self.url,
            )
        return UserError(f"The server refuses the request ({said}).", where=self.url)

    def _start_of(self, error: urllib.error.HTTPError) -> str:
        """The first words of a reply with an error status, after a colon."""
        try:
            text = error.read(20_000).decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException):
            return ""
        with suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["error"]["message"]
        words = self._hidden(" ".join(str(text).split()))[
            :200
        ]  # hidden first: half a key is secret
        return f": {words}" if words else ""

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _reply_of(content: bytes) -> str:
    """Read the text of a reply.

    Raises:
        _TryAgainError: It has none.
    """
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise _TryAgainError(
            "the reply is not that of an OpenAI-compatible server, which has "
            "choices[0].message.content"
        ) from error
    if not isinstance(text, str):
        raise _TryAgainError("the reply has no text")
    return text
