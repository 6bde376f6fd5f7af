"""Kinds of values in requests, and the sentences for those that are wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from groundup.base.arguments import shown
from groundup.base.surrogates import has_surrogates

MOST_STOPS = 4
_MOST_PROMPTS = 64
_LONGEST_STOP = 1_000


def wrong(
    message: str, *, code: str = "invalid_value", param: str | None = None
) -> PydanticCustomError:
    """Make the error of a value.

    Args:
        message: Whole sentences: what was found, and what is expected.
        code: A word for programs.
        param: The parameter, where it is not the one that is being checked.
    """
    # The message is an argument: braces in it would be read as fields of the template.
    about = {"message": message, "code": code, "param": param}
    return PydanticCustomError("groundup", "{message}", about)


@dataclass(frozen=True)
class Unused:
    """A parameter that is not honored. It is taken only with values that change nothing."""

    harmless: tuple[Any, ...] = ()

    def check(self, value: Any) -> Any:
        """Return the value.

        Raises:
            PydanticCustomError: It would change the answer.
        """
        values = (None, *self.harmless)
        if not any(type(value) is type(each) and value == each for each in values):
            hint = f", or give {json.dumps(self.harmless[0])}" if self.harmless else ""
            raise wrong(
                f"This parameter is not supported by this server. Leave it out{hint}.",
                code="unsupported_parameter",
            )
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> JsonSchemaValue:
        return {"enum": [None, *self.harmless]}


class Form(BaseModel):
    """A JSON object without other fields."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        for key in value if isinstance(value, dict) else ():
            if has_surrogates(key):
                raise wrong(
                    f"The key {shown(key)} has half of a surrogate pair. Valid Unicode is expected."
                )
        return value


class Part(Form):
    """A JSON object in another one."""

    @model_validator(mode="before")
    @classmethod
    def _check_object(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise wrong(f"This parameter is {shown(value)}. A JSON object is expected.")
        return value


def length(least: int, most: int, noun: str = "item") -> BeforeValidator:
    """Check the length of a list or a text before what is in it."""

    def check(value: Any) -> Any:
        if isinstance(value, (list, str)) and len(value) < least:
            raise wrong(f"This parameter has no {noun}s. At least {least} {noun} is expected.")
        if isinstance(value, (list, str)) and len(value) > most:
            raise wrong(
                f"This parameter has {len(value):,} {noun}s. At most {most:,} are expected."
            )
        return value

    return BeforeValidator(check)


def _text(value: str) -> str:
    if has_surrogates(value):
        raise wrong("This parameter has half of a surrogate pair. Valid Unicode is expected.")
    return value


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    _text(json.dumps(value, ensure_ascii=False))
    return value


def _content(value: Any) -> str:
    """Check the content of a message: a text, or parts of which each is a text."""
    parts = [{"type": "text", "text": value}] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        raise wrong("The content is of another type. A text, or a list of parts, is expected.")
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and (others := sorted(part.keys() - {"type", "text"})):
            raise wrong(
                f"The content has a part of the type 'text' with {shown(others[0])}, which is not "
                "a parameter of this server. Leave it out.",
                code="unknown_parameter",
            )
        if kind != "text" or not isinstance(part.get("text"), str):
            raise wrong(
                f"The content has a part of the type {shown(kind)}. This server reads text only: "
                'expected {"type": "text", "text": ...}.'
            )
        texts.append(_text(part["text"]))
    return "".join(texts)


def _stops(value: Any) -> list[str]:
    """Check stop strings; one may be given without a list."""
    if value is None:
        return []
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise wrong("stop is of another type. A text, or a list of texts, is expected.")
    if len(stops) > MOST_STOPS:
        raise wrong(f"stop has {len(stops)} texts. At most {MOST_STOPS} are expected.")
    if "" in stops:
        raise wrong("stop has an empty text. At least one character is expected.")
    if max(map(len, stops), default=0) > _LONGEST_STOP:
        raise wrong(f"stop has a text of more than {_LONGEST_STOP:,} characters.")
    return [_text(stop) for stop in stops]


def _prompts(value: Any) -> list[str | list[int]]:
    """Check the prompt of a completion: a text, ids, or a list of texts or of lists of ids."""
    kinds = "A text, a list of token ids, or a list of those is expected."
    is_ids = isinstance(value, list) and len(value) > 0 and type(value[0]) is int
    prompts = [value] if is_ids or isinstance(value, str) else value
    if not isinstance(prompts, list) or not prompts:
        raise wrong(f"prompt is empty, or of another type. {kinds}")
    if len(prompts) > _MOST_PROMPTS:
        raise wrong(f"prompt has {len(prompts):,} prompts. At most {_MOST_PROMPTS} are expected.")
    for prompt in prompts:
        if isinstance(prompt, str):
            _text(prompt)
        elif not isinstance(prompt, list) or not all(type(i) is int for i in prompt):
            raise wrong(f"prompt has an entry of another type. {kinds}")
        elif not prompt:
            raise wrong("prompt has an empty list of token ids. At least one id is expected.")
    return prompts


def _logit_bias(value: Any) -> dict[int, float]:
    """Check logit_bias; JSON writes ids as text."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong("logit_bias is of another type. An object of token ids is expected.")
    found: dict[int, float] = {}
    for key, bias in value.items():
        if not (isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 12):
            raise wrong(f"logit_bias has the key {str(key)[:40]!r}. The id of a token is expected.")
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise wrong(
                f"logit_bias of token {key} is not in the range. A number from -100 to 100 is "
                "expected."
            )
        found[int(key)] = float(bias)
    return found


_STRING = {"type": "string"}
_SOME_STRING = {"type": "string", "minLength": 1}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

Text = Annotated[str, AfterValidator(_text)]
Schema = Annotated[dict[str, Any], AfterValidator(_schema)]
Content = Annotated[
    Any,
    AfterValidator(_content),
    WithJsonSchema(
        {
            "anyOf": [
                _STRING,
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "properties": {"type": {"const": "text"}, "text": _STRING},
                        "required": ["type", "text"],
                        "additionalProperties": False,
                    },
                },
            ]
        }
    ),
]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Stops = Annotated[
    Any,
    AfterValidator(_stops),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "null"},
                _SOME_STRING,
                {"type": "array", "items": _SOME_STRING, "maxItems": MOST_STOPS},
            ]
        }
    ),
]
Prompts = Annotated[
    Any,
    AfterValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                _STRING,
                {"type": "array", "items": _STRING, "minItems": 1, "maxItems": _MOST_PROMPTS},
                _IDS,
                {"type": "array", "items": _IDS, "minItems": 1, "maxItems": _MOST_PROMPTS},
            ]
        }
    ),
]
LogitBias = Annotated[
    Any,
    AfterValidator(_logit_bias),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "propertyNames": {"pattern": "^[0-9]{1,11}$"},
                    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                },
            ]
        }
    ),
]
