"""Generate the answers of a chat, with settings that can be changed between two of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from groundup.base.device import choose_device
from groundup.base.fields import field_kinds
from groundup.chat.config import ChatConfig
from groundup.chat.session import check_answer_length
from groundup.chat.uncertainty import N_ALTERNATIVES
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import token_bytes
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Event
from groundup.generation.request import Request, Sampling
from groundup.generation.sampler import Token

SETTINGS = ("temperature", "top_k", "top_p", "min_p", "seed", "max_new_tokens")
"""What can be changed during a chat."""


class AnswerGenerator:
    """Generates answers, and keeps the tokens of the last one.

    Args:
        decoder: Computes the logits.
        token_bytes: The bytes of one token.
        settings: The settings at the beginning.
        temperature: The temperature if the settings have none.
        max_new_tokens: The maximum length of an answer if the settings have none. It is never
            longer than half of the context.
        stop_ids: Ids that end an answer.

    Raises:
        UserError: An answer of the length in the settings does not fit into the context.
    """

    def __init__(
        self,
        decoder: Decoder,
        token_bytes: Callable[[int], bytes],
        settings: ChatConfig,
        *,
        temperature: float,
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
    ) -> None:
        self.token_bytes = token_bytes
        self.context_length = decoder.config.context_length
        self.tokens: list[Token] = []
        """The tokens of the last answer, with the log-probabilities of their alternatives."""
        self.was_cut = False
        """Whether the last answer has the maximum length."""
        self._settings = settings
        self._decoder, self._stop_ids = decoder, stop_ids
        self._temperature = temperature
        self._max_new_tokens = min(max_new_tokens, self.context_length // 2)
        self._n_asked = 0
        self._engine = self._new_engine()
        check_answer_length(self.max_new_tokens, self.context_length)

    @property
    def temperature(self) -> float:
        """The sampling temperature."""
        given = self._settings.temperature
        return self._temperature if given is None else given

    @property
    def max_new_tokens(self) -> int:
        """The maximum length of an answer, in tokens."""
        given = self._settings.max_new_tokens
        return self._max_new_tokens if given is None else given

    @property
    def current(self) -> dict[str, float | int | None]:
        """The settings in use, by name."""
        own = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens}
        return {name: own.get(name, getattr(self._settings, name)) for name in SETTINGS}

    def change(self, name: str, text: str) -> None:
        """Set one of the settings to a value; "none" means its default.

        Raises:
            UserError: The value is not allowed.
        """
        kind = field_kinds(ChatConfig)[name]
        value: Any = text
        if text.lower() == "none":
            value = None
        else:
            try:
                value = kind.type(text)
            except ValueError:  # the check says what is expected
                value = text[:40]
        settings = replace(self._settings, **{name: value})
        if settings.max_new_tokens is not None:
            check_answer_length(settings.max_new_tokens, self.context_length)
        self._settings = settings
        if name == "seed":  # the same seed and messages give the same answers
            self._n_asked = 0

    def forget(self) -> None:
        """Forget the tokens of the last answer."""
        self.tokens, self.was_cut = [], False

    def ids(self, prompt: list[int], max_new_tokens: int) -> Iterator[int]:
        """Yield the ids of an answer."""
        for event in self._events(prompt, max_new_tokens, ()):
            for token in event.tokens:
                yield token.id

    def text(self, prompt: list[int], stop: Sequence[str]) -> str:
        """Return the text of an answer, up to a stop string."""
        return "".join(event.text for event in self._events(prompt, self.max_new_tokens, stop))

    def _events(
        self, prompt: list[int], max_new_tokens: int, stop: Sequence[str]
    ) -> Iterator[Event]:
        self.forget()
        # Each answer has its own seed; otherwise a repeated question always got the same answer.
        self._n_asked += 1
        sampling = Sampling(
            temperature=self.temperature,
            top_k=self._settings.top_k,
            top_p=self._settings.top_p,
            min_p=self._settings.min_p,
            seed=self._settings.seed + self._n_asked,
        )
        request = Request(
            ids=prompt,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop_ids=self._stop_ids,
            stop=stop,
            logprobs=N_ALTERNATIVES + 1,
        )
        handle = self._engine.submit(request)
        try:
            while not handle.is_finished:
                try:
                    events = self._engine.step()
                except KeyboardInterrupt:
                    self._decoder.drop_rows()
                    self._engine = self._new_engine()
                    raise
                for event in events:
                    if event.handle is not handle:  # of an answer that was stopped
                        continue
                    if event.error is not None:
                        raise event.error
                    self.tokens += event.tokens
                    self.was_cut = event.finish_reason == "length"
                    yield event
        finally:
            handle.cancel()

    def _new_engine(self) -> Engine:
        # What was read of the conversation is kept, so that only the new message is read.
        return Engine(self._decoder, token_bytes=self.token_bytes, n_kept_rows=1)


def open_generator(
    language_model: LanguageModel, config: ChatConfig, *, temperature: float, max_new_tokens: int
) -> AnswerGenerator:
    """Make the generator of a model.

    Raises:
        UserError: The form of the weights is "file", and they are not quantized; or as the class.
    """
    model = language_model.model.to(choose_device(config.device)).eval()
    return AnswerGenerator(
        decoder_of(model, language_model.path, form=form_of(config.dtype, config.quantize)),
        token_bytes(language_model.tokenizer),
        config,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        stop_ids=language_model.stop_ids,
    )
