"""The page, and what it asks for: tokens with their rivals, and a look inside the model.

The page sends token ids back as it got them, so that an answer that goes on from its middle is not
encoded again. Text becomes ids on the server only, and never a control token.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from annotated_types import Ge, Le, Len
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from groundup.base.errors import UserError
from groundup.chat.assistant import about_assistant
from groundup.chat.cast import Cast, name_of
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import prompt_ids
from groundup.generation.decoder import Decoder
from groundup.generation.request import Sampling
from groundup.inspection.lens import MOST_TOKENS, look
from groundup.serve.admission import Busy
from groundup.serve.page_answer import Answer, Generate
from groundup.serve.page_prompt import Turn, cast_prompt, chat_prompt
from groundup.serve.page_tokens import TokenNames

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
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_N_LENS = 5
"""Number of tokens that are listed for each layer."""
_N_WAITING = 4
"""Number of looks inside that may wait; one is computed at a time."""
_LONGEST = 1_000_000

_Mode = Literal["chat", "cast", "text"]
_Id = Annotated[int, Ge(0)]
_Ids = Annotated[list[_Id], Len(0, _LONGEST)]
_Text = Annotated[str, Len(0, _LONGEST)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SaidBody(_Body):
    """A message as text, or an answer as ids."""

    role: Literal["user", "assistant"]
    text: _Text = ""
    ids: _Ids = []


class AnswerBody(_Body):
    """What the page asks to generate; of prompt, turns and text one is given."""

    prompt: _Ids | None = None
    """The prompt of an answer before, as ids."""
    turns: Annotated[list[SaidBody], Len(1, 10_000)] | None = None
    """A conversation."""
    text: _Text | None = None
    """A text to continue."""
    character: _Text | None = None
    """Who answers in a play. None: the one who speaks most."""
    answer: _Ids = []
    """The tokens that the answer begins with."""
    max_new_tokens: Annotated[int, Ge(1), Le(_LONGEST)] = 256
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0


class LookBody(_Body):
    """A token, and the ids before it."""

    ids: _Ids
    token: _Id


class Page:
    """Answers what the page asks.

    Args:
        language_model: The model.
        decoder: The decoder that generates.
        generate: Generates for a request.
        name: Name of the model.
        cast: The speakers of the plays that the model was trained on. None: it was not.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        decoder: Decoder,
        generate: Generate,
        *,
        name: str,
        cast: Cast | None = None,
    ) -> None:
        self.language_model, self.decoder, self.generate = language_model, decoder, generate
        self.name, self.cast = name, cast
        self.mode: _Mode = "chat" if language_model.can_chat else "cast" if cast else "text"
        self.names = TokenNames(language_model)
        self._one = asyncio.Lock()
        self._n_looks = 0

    def about(self) -> dict[str, Any]:
        """Describe the model, and how the page begins."""
        config = self.decoder.config
        found: dict[str, Any] = {
            "name": self.name,
            "mode": self.mode,
            "n_parameters": sum(p.numel() for p in self.language_model.model.parameters()),
            "n_layers": config.n_layers,
            "n_heads": config.n_heads,
            "vocab_size": self.language_model.tokenizer.vocab_size,
            "context_length": config.context_length,
            "longest_look": min(MOST_TOKENS, config.context_length),
            "stop_ids": self.language_model.stop_ids,
            "prompts": about_assistant(self.language_model.path).prompts,
        }
        if self.cast is not None and self.mode == "cast":
            partners = self.cast.partners
            found["cast"] = [[name_of(cue), name_of(partners[cue])] for cue in self.cast.cues]
        return found

    def answer(self, body: AnswerBody) -> Answer:
        """Read a request.

        Raises:
            UserError: It is wrong.
        """
        config = self.decoder.config
        answer = Answer(
            names=self.names,
            prompt=self._prompt(body),
            begun=body.answer,
            stop_ids=self.language_model.stop_ids,
            context_length=config.context_length,
            max_new_tokens=body.max_new_tokens,
            sampling=Sampling(
                temperature=body.temperature,
                top_k=body.top_k,
                top_p=body.top_p,
                min_p=body.min_p,
                seed=body.seed,
            ),
            is_reply=self.mode == "chat",
            is_speech=self.mode == "cast",
        )
        answer.request.check(self.language_model.tokenizer.vocab_size, config.context_length)
        return answer

    def _prompt(self, body: AnswerBody) -> list[int]:
        n_given = sum(each is not None for each in (body.prompt, body.turns, body.text))
        if n_given != 1:
            raise UserError(
                f"{n_given} of prompt, turns and text are given. Exactly one of them is expected."
            )
        if body.prompt is not None:
            return body.prompt
        if body.text is not None:
            return prompt_ids(self.language_model, body.text)
        said = body.turns or []
        turns = [Turn(role=each.role, text=each.text, ids=each.ids) for each in said]
        if self.mode == "chat":
            return chat_prompt(self.language_model, turns)
        if self.cast is None:
            raise UserError("This model continues a text; it has no chat template. Send text.")
        return cast_prompt(self.language_model, self.cast, turns, body.character)

    async def look(self, body: LookBody, request: Request) -> dict[str, Any] | None:
        """Look inside the model where it chose a token. None: the client left meanwhile.

        Raises:
            UserError: The text is too long, or an id is not in the vocabulary.
            Busy: Others wait already.
        """
        if self._n_looks > _N_WAITING:
            raise Busy("Other tokens are being looked into. Try again.", retry_after_s=1)
        self._n_looks += 1
        try:
            async with self._one:
                if await request.is_disconnected():
                    return None
                return await asyncio.to_thread(self._look, body)
        finally:
            self._n_looks -= 1

    def _look(self, body: LookBody) -> dict[str, Any]:
        V = self.language_model.tokenizer.vocab_size
        if body.token >= V:
            raise UserError(f"The token id is {body.token}. Expected an id below {V:,}.")
        seen = look(self.decoder, body.ids)
        layers = [
            {
                "top": self.names.top(row, body.token, _N_LENS)[:_N_LENS],
                "logprob": round(float(row[body.token] - row.logsumexp(dim=0)), 5),
                "rank": 1 + int((row > row[body.token]).sum()),
            }
            for row in seen.logits
        ]
        return {
            "layers": layers,
            # In thousandths: a float would take three times the space.
            "attention": (1000 * seen.attention).round().int().tolist(),
            "windows": self.decoder.windows,
        }


def page_router(page: Page) -> APIRouter:
    """Make the routes of the page: the document at /, its files and its questions below /page."""
    router = APIRouter(include_in_schema=False)
    files = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _TYPES}

    @router.get("/")
    def index() -> Response:
        return Response(files["index.html"], media_type="text/html", headers=_HEADERS)

    @router.get("/page/model")
    def about() -> Response:
        return _json(page.about())

    @router.post("/page/answer")
    async def answer(body: AnswerBody, request: Request) -> Response:
        events = page.answer(body).events(page.generate)
        first = await anext(events)  # what the engine refuses is not yet an answer
        return StreamingResponse(
            _lines(first, events),
            media_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )

    @router.post("/page/look")
    async def look_inside(body: LookBody, request: Request) -> Response:
        found = await page.look(body, request)
        return Response(status_code=204) if found is None else _json(found)

    @router.get("/page/{name}")
    def file(name: str) -> Response:
        if name not in files:
            return Response(status_code=404)
        media_type = _TYPES[Path(name).suffix]
        return Response(files[name], media_type=media_type, headers=_HEADERS)

    return router


async def _lines(first: dict[str, Any], events: AsyncIterator[dict[str, Any]]) -> Any:
    """Write events as lines of JSON."""
    yield orjson.dumps(first) + b"\n"
    try:
        async for event in events:
            yield orjson.dumps(event) + b"\n"
    except Exception as error:
        message = error.message if isinstance(error, UserError) else "The server failed."
        yield orjson.dumps({"error": message}) + b"\n"
        if not isinstance(error, UserError):
            raise


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
