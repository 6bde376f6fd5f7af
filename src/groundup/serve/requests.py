"""The requests of OpenAI's API. What this server does not honor is refused by name, not ignored."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, model_validator

from groundup.generation.request import MOST_LOGPROBS, Sampling
from groundup.serve.parameters import (
    Content,
    Form,
    LogitBias,
    Part,
    Penalty,
    Prompts,
    Schema,
    Stops,
    Text,
    Unused,
    length,
    wrong,
)
from groundup.tokenizer.template import Message

_MOST_MESSAGES = 2_048
_LONGEST_NAME = 64
_Length = Annotated[int, Field(ge=1, lt=2**31)]


class StreamOptions(Part):
    """What a stream has beside the text."""

    include_usage: bool = False
    include_obfuscation: Annotated[Any, Unused((False,))] = None


class JsonSchema(Part):
    """The schema of an answer."""

    name: Annotated[
        Text,
        Field(json_schema_extra={"maxLength": _LONGEST_NAME}),
        length(0, _LONGEST_NAME, "character"),
    ]
    json_schema: Annotated[Schema, Field(alias="schema")]
    description: Text | None = None
    strict: bool | None = None


class ResponseFormat(Part):
    """Whether an answer is any text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise wrong(
                "response_format has a json_schema with another type, or lacks one. Expected "
                '{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}.'
            )
        return self

    @property
    def schema_to_follow(self) -> Mapping[str, Any] | None:
        """The schema of the answer. None: any text."""
        if self.type == "text":
            return None
        return {"type": "object"} if self.json_schema is None else self.json_schema.json_schema


class GenerationForm(Form):
    """What both kinds of requests have."""

    model: Text
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Stops = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: _Length | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias = None
    response_format: ResponseFormat | None = None
    user: Text | None = None  # taken and not used, as it changes no answer
    # Not in OpenAI's API; other servers have them under these names.
    top_k: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None

    @model_validator(mode="after")
    def _check_stream(self) -> "GenerationForm":
        if self.stream_options is not None and not self.stream:
            raise wrong(
                "stream_options is given without stream. Expected stream: true beside it.",
                param="stream_options",
            )
        return self

    @property
    def n_texts(self) -> int:
        """Number of answers to a prompt."""
        return self.n or 1

    @property
    def has_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def most_new_tokens(self) -> tuple[str, int | None]:
        """The maximum length of an answer, and the parameter that sets it."""
        return "max_tokens", self.max_tokens

    @property
    @abstractmethod
    def n_logprobs(self) -> int | None:
        """Number of likely tokens to list. None: no log-probabilities."""

    def sampling(self, seed: int) -> Sampling:
        """How tokens are drawn. What is not given is as in OpenAI's API: from all tokens, at 1."""
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=self.logit_bias or {},
            seed=seed if self.seed is None else self.seed,
        )


class CompletionForm(GenerationForm):
    """A request to continue a text."""

    prompt: Prompts
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    best_of: Annotated[Any, Unused((1,))] = None
    echo: Annotated[Any, Unused((False,))] = None
    suffix: Annotated[Any, Unused(("",))] = None

    @property
    def most_new_tokens(self) -> tuple[str, int | None]:
        """The maximum length of an answer; it is 16 in OpenAI's API, too."""
        return "max_tokens", 16 if self.max_tokens is None else self.max_tokens

    @property
    def n_logprobs(self) -> int | None:
        """Number of likely tokens to list. None: no log-probabilities."""
        return self.logprobs


class MessageForm(Part):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Annotated[Any, Unused()] = None
    refusal: Annotated[Any, Unused()] = None
    tool_calls: Annotated[Any, Unused(([],))] = None
    function_call: Annotated[Any, Unused()] = None
    audio: Annotated[Any, Unused()] = None

    @property
    def message(self) -> Message:
        """The message, as templates read it. A developer's one is the system message."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class ChatForm(GenerationForm):
    """A request to answer in a conversation."""

    messages: Annotated[
        list[MessageForm],
        FailFast(),
        Field(min_length=1, max_length=_MOST_MESSAGES),
        length(1, _MOST_MESSAGES),
    ]
    max_completion_tokens: _Length | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    # Taken and not used, as they change no answer.
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    # Not honored.
    audio: Annotated[Any, Unused()] = None
    function_call: Annotated[Any, Unused(("none",))] = None
    functions: Annotated[Any, Unused(([],))] = None
    metadata: Annotated[Any, Unused(({},))] = None
    modalities: Annotated[Any, Unused((["text"],))] = None
    moderation: Annotated[Any, Unused()] = None
    parallel_tool_calls: Annotated[Any, Unused((True, False))] = None
    prediction: Annotated[Any, Unused()] = None
    prompt_cache_options: Annotated[Any, Unused()] = None
    prompt_cache_retention: Annotated[Any, Unused()] = None
    reasoning_effort: Annotated[Any, Unused(("none",))] = None
    service_tier: Annotated[Any, Unused(("auto", "default"))] = None
    store: Annotated[Any, Unused((False,))] = None
    tool_choice: Annotated[Any, Unused(("none", "auto"))] = None
    tools: Annotated[Any, Unused(([],))] = None
    verbosity: Annotated[Any, Unused(("medium",))] = None
    web_search_options: Annotated[Any, Unused()] = None

    @model_validator(mode="after")
    def _check_chat(self) -> "ChatForm":
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong(
                "top_logprobs is given without logprobs. Expected logprobs: true beside it.",
                param="top_logprobs",
            )
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise wrong(
                "max_tokens and max_completion_tokens are given. One of them is expected.",
                param="max_tokens",
            )
        return self

    @property
    def most_new_tokens(self) -> tuple[str, int | None]:
        """The maximum length of an answer, and the parameter that sets it."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens

    @property
    def n_logprobs(self) -> int | None:
        """Number of likely tokens to list. None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None
