"""The page, and what it asks for: tokens with their alternatives, and a look inside the model.

The page sends token ids back as it got them, so that an answer that goes on from its middle is not
encoded again. Text becomes ids on the server only, and never a control token.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Body
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.chat.assistant import about_assistant
from groundup.chat.cast import Cast, name_of
from groundup.chat.open_cast import cast_of
from groundup.evaluation.text_generation import prompt_ids
from groundup.inspection.lens import look
from groundup.serve.admission import Busy
from groundup.serve.errors import ApiError, json_response, of_user
from groundup.serve.listening import Answering
from groundup.serve.page_answer import Asked, PageAnswer
from groundup.serve.page_forms import AnswerForm, LookForm
from groundup.serve.page_prompt import Turn, cast_prompt, chat_prompt
from groundup.serve.page_tokens import TokenNames
from groundup.serve.parameters import Form
from groundup.serve.prompts import check_length, check_texts
from groundup.serve.served_model import ServedModel

T = TypeVar("T")

_FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cache-Control": "no-cache",
}
_N_LENS = 5
"""Number of tokens that are listed for each layer."""
_N_WAITING = 4
"""Number of looks inside that may wait; one is computed at a time."""


def page_router(served: ServedModel) -> APIRouter:
    """Make the routes of the page: the document at /, its files and its questions below /page."""
    router = APIRouter(include_in_schema=False)
    files = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _TYPES}
    page = _Page(served)

    @router.get("/")
    async def index() -> Response:
        return Response(files["index.html"], media_type="text/html", headers=_HEADERS)

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in files:
            raise ApiError("The page has no such file.", status=404)
        media_type = _TYPES[Path(name).suffix]
        return Response(files[name], media_type=media_type, headers=_HEADERS)

    @router.post("/page/model")
    async def about(form: Annotated[Form, Body()]) -> Response:
        return json_response(page.about)

    @router.post("/page/answer")
    async def answer(form: Annotated[AnswerForm, Body()]) -> Response:
        return PageAnswer(lambda: page.asked(form), served, page.names)

    @router.post("/page/look")
    async def look_inside(form: Annotated[LookForm, Body()]) -> Response:
        return _Look(page, form)

    return router


class _Page:
    """Answers what the page asks about a model."""

    def __init__(self, served: ServedModel) -> None:
        self.served, self.model = served, served.model
        self.cast: Cast | None = None
        if not self.model.can_chat:
            self.cast = cast_of(RunFolder.of(self.model.path).path)
        self.mode: Literal["chat", "cast", "text"] = "cast" if self.cast else "text"
        if self.model.can_chat:
            self.mode = "chat"
        self.names = TokenNames(served)
        self.decoder = served.worker.engine.decoder
        self.is_looking = asyncio.Lock()
        self.n_waiting = 0

    @property
    def about(self) -> dict[str, Any]:
        """Describe the model."""
        config = self.decoder.config
        cast = self.cast
        return {
            "name": self.served.name,
            "mode": self.mode,
            "n_parameters": sum(p.numel() for p in self.model.model.parameters()),
            "n_layers": config.n_layers,
            "context_length": config.context_length,
            "stop_ids": self.model.stop_ids,
            "prompts": about_assistant(self.model.path).prompts,
            "cast": cast and [[name_of(cue), name_of(cast.partners[cue])] for cue in cast.cues],
        }

    def asked(self, form: AnswerForm) -> Asked:
        """Read what is to be generated.

        Raises:
            UserError: A value is wrong.
        """
        most = self.served.max_new_tokens  # the page does not know it
        asked = Asked(
            prompt=self._prompt(form),
            begun=form.answer,
            max_new_tokens=min(form.max_new_tokens, most or form.max_new_tokens),
            sampling=form.sampling,
            is_reply=self.mode == "chat",
            is_speech=self.mode == "cast",
        )
        check_length(asked.request.ids, "prompt", self.served)
        try:
            asked.request.check(self.model.tokenizer.vocab_size, self.served.context_length)
        except UserError as error:
            raise of_user(error, "prompt") from error
        return asked

    def _prompt(self, form: AnswerForm) -> list[int]:
        form.check()
        if form.prompt is not None:
            return form.prompt
        texts = [form.text or "", *(turn.text for turn in form.turns or ())]
        check_texts(texts, "prompt", self.served)
        if form.text is not None:
            return prompt_ids(self.model, form.text)
        said = form.turns or []
        # Before they are decoded.
        check_length([index for each in said for index in each.ids], "turns", self.served)
        turns = [Turn(role=each.role, text=each.text, ids=each.ids) for each in said]
        if self.mode == "chat":
            return chat_prompt(self.served, turns)
        if self.cast is None:
            raise UserError("This model has no chat template. A text to continue is expected.")
        return cast_prompt(self.served, self.cast, turns, form.character)

    def look(self, form: LookForm) -> dict[str, Any]:
        """Look inside the model where it chose a token.

        Raises:
            ApiError: The text is too long, or an id is not in the vocabulary.
        """
        V = self.model.tokenizer.vocab_size
        if form.token >= V:
            raise ApiError(
                f"The token id is {form.token}. Expected an id below {V:,}.", param="token"
            )
        try:
            seen = look(self.decoder, form.ids)
        except UserError as error:
            raise of_user(error, "ids") from error
        layers = [
            {
                "top": self.names.top(row, form.token, _N_LENS)[:_N_LENS],
                "logprob": round(float(row[form.token] - row.logsumexp(dim=0)), 5),
                "rank": 1 + int((row > row[form.token]).sum()),
            }
            for row in seen.logits
        ]
        return {
            "layers": layers,
            # In thousandths: a float would take three times the space.
            "attention": (1000 * seen.attention).round().int().tolist(),
            "windows": self.decoder.windows,
            "kinds": self.decoder.config.kinds,
        }


class _Look(Answering):
    """A look inside the model; only one is computed at a time."""

    def __init__(self, page: _Page, form: LookForm) -> None:
        super().__init__(page.served)
        self._page, self._form = page, form

    async def generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look, and send what was found."""
        async with aclosing(self._found()) as found:
            answer = json_response(await self.next_event(found))
        await answer(scope, receive, send)

    async def _found(self) -> AsyncGenerator[dict[str, Any], None]:
        """Wait for the looks before, then look. A client that has left leaves the queue."""
        page = self._page
        if page.n_waiting >= _N_WAITING:
            raise Busy("Others look into the model. Try again in a moment.", retry_after_s=1)
        page.n_waiting += 1
        try:
            await page.is_looking.acquire()
        finally:
            page.n_waiting -= 1
        look = _in_thread(lambda: page.look(self._form))
        # A thread cannot be cancelled: the next look waits for its end even if the client has left.
        look.add_done_callback(lambda _: page.is_looking.release())
        outcome = await asyncio.shield(look)
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def _in_thread(function: Callable[[], T]) -> asyncio.Future[T | Exception]:
    """Call a function in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T | Exception] = loop.create_future()

    def run() -> None:
        outcome: T | Exception
        try:
            outcome = function()
        except Exception as error:
            outcome = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(future.set_result, outcome)

    threading.Thread(target=run, name="groundup-look", daemon=True).start()
    return future
