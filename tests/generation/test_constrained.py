"""Constrained texts are valid and end by themselves, whatever the weights and the tokenizer."""

import json
import random
import re
import string
import sys
from typing import Any

import pytest
import torch
from peers import peer

from groundup.base.errors import UserError
from groundup.generation.choices import Choices
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine
from groundup.generation.grammar import GrammarTokens
from groundup.generation.request import Request, Sampling
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

BYTES = [bytes([i]) for i in range(256)]
PAIRS = ['{"', '":', '", "', '"}', "true", "false", " [", "null", "yes", "ye", "no", "é", "日"]
TOKENS = [*BYTES, *(pair.encode() for pair in PAIRS), b"<|end|>", b"<|pad|>"]
END, PAD = len(TOKENS) - 2, len(TOKENS) - 1
CONFIG = GPTConfig(vocab_size=len(TOKENS), context_length=256, d_model=16, n_layers=1, n_heads=2)
MODEL = GPT(CONFIG, seed=3)
torch.nn.init.normal_(MODEL.head.weight, std=1.0, generator=torch.Generator().manual_seed(1))
DECODER = Decoder(MODEL)


def texts(constraint: Any, n: int = 4, *, n_new: int = 120, stop_ids: Any = (END,)) -> list[str]:
    engine = Engine(DECODER, token_bytes=TOKENS.__getitem__, hidden_ids=[END, PAD])
    found = [""] * n
    for seed in range(n):
        engine.submit(
            Request(
                ids=[seed],
                max_new_tokens=n_new,
                sampling=Sampling(seed=seed, temperature=seed),
                stop_ids=stop_ids,
                constraint=constraint,
                prompt_lookup=seed % 2 == 1,
            )
        )
    handles: dict[Any, int] = {}
    while not engine.is_idle:
        for event in engine.step():
            assert event.error is None
            place = handles.setdefault(event.handle, len(handles))
            found[place] += event.text
            assert event.finish_reason in (None, "stop")
    return found


def some_choices(seed: int) -> list[str]:
    draw = random.Random(seed)
    alphabet = "ab" if seed % 2 else "yesno é日"
    words = {"".join(draw.choices(alphabet, k=draw.randint(1, 9))) for _ in range(5)}
    return [*sorted(words), "something else"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("stop_ids", [(END,), (), (END, 255)])
def test_a_choice_is_one_of_the_choices(seed: int, stop_ids: tuple[int, ...]) -> None:
    choices = some_choices(seed)
    found = texts(Choices(choices, TOKENS, special_ids=[END, PAD]), stop_ids=stop_ids)
    assert set(found) <= set(choices)


def test_a_choice_ends_where_no_longer_one_begins_with_it() -> None:
    model = Choices(["yes", "yes, please", "no"], TOKENS, special_ids=[END])
    one = model()
    one.accept(TOKENS.index(b"ye"))
    assert one.allowed(9).nonzero()[:, 0].tolist() == [ord("s")]
    one.accept(ord("s"))
    assert (one.may_end, one.must_end) == (True, False)
    assert one.allowed(9).nonzero()[:, 0].tolist() == [ord(",")]
    other = model()
    other.accept(TOKENS.index(b"no"))
    assert (other.may_end, other.must_end) == (True, True)


@pytest.mark.parametrize(
    ("choices", "found"),
    [
        (["yes"], "at least two"),
        ([], "at least two"),
        ("yes", "at least two"),
        (["yes", ""], "empty, or occurs twice"),
        (["yes", "yes"], "empty, or occurs twice"),
        (["yes", "\U0001f600"], "cannot write the choice '\U0001f600'"),
    ],
)
def test_what_are_no_choices_is_refused(choices: Any, found: str) -> None:
    with pytest.raises(UserError, match=found):
        Choices(choices, [token for token in TOKENS if token != b"\xf0"])


def object_of(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRING, NUMBER, BOOLEAN = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
SCHEMAS: list[dict[str, Any]] = [
    BOOLEAN,
    STRING,
    NUMBER,
    {"type": "integer", "minimum": 3, "maximum": 17},
    {"type": "null"},
    {"enum": ["red", "green", 3, None]},
    {"const": {"a": [1, 2]}},
    {"type": "string", "pattern": "^[a-z]{2,5}-[0-9]+$"},
    {"type": "string", "minLength": 2, "maxLength": 3},
    {"type": "array", "items": NUMBER},
    {"type": "array", "items": BOOLEAN, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": {"type": "array", "items": STRING}},
    object_of(),
    object_of(answer=BOOLEAN, why=STRING),
    object_of(a=object_of(b=object_of(c=STRING)),
              d={"type": "array", "items": object_of(e=NUMBER)}),
    {"type": "object", "properties": {"x": NUMBER, "y": STRING}},
    {"type": "object", "additionalProperties": NUMBER},
    {"anyOf": [STRING, NUMBER, {"type": "array", "items": STRING}]},
    {"type": ["string", "null"]},
    {"$defs": {"t": object_of(l={"anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}]})},
     "$ref": "#/$defs/t"},
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(SCHEMAS)))
def test_json_follows_its_schema(place: int) -> None:
    peer("llguidance")
    schema = SCHEMAS[place]
    constraint = GrammarTokens(TOKENS, special_ids=[END, PAD]).json_schema(schema)
    for text in texts(constraint):
        assert fits(json.loads(text), schema, schema), text
    # Without an id that ends texts they end where they are complete.
    for text in texts(constraint, 2, stop_ids=()):
        assert fits(json.loads(text), schema, schema), text


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value follows a schema; only the keywords above."""
    if "$ref" in schema:
        return fits(value, root["$defs"]["t"], root)
    if "anyOf" in schema:
        return any(fits(value, each, root) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "const" in schema:
        return bool(value == schema["const"])
    kinds = {
        "string": str, "number": (int, float), "integer": int, "boolean": bool, "null": type(None),
        "array": list, "object": dict,
    }  # fmt: skip
    names = schema.get("type", [])
    names = names if isinstance(names, list) else [names]
    if not any(isinstance(value, kinds[name]) for name in names):  # type: ignore[arg-type]
        return False
    if isinstance(value, bool) and "boolean" not in names:
        return False
    if isinstance(value, str):
        n, pattern = len(value), schema.get("pattern", "")
        return schema.get("minLength", 0) <= n <= schema.get("maxLength", n) and bool(
            re.search(pattern, value)
        )
    if isinstance(value, list):
        n = len(value)
        return schema.get("minItems", 0) <= n <= schema.get("maxItems", n) and all(
            fits(item, schema["items"], root) for item in value
        )
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        return set(schema.get("required", [])) <= value.keys() and all(
            fits(item, known[name], root)
            if name in known
            else others is not False and (not others or fits(item, others, root))
            for name, item in value.items()
        )
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    return bool(value is None or low <= value <= high)


def test_a_text_matches_its_regular_expression() -> None:
    peer("llguidance")
    for pattern in (r"[0-9]{4}-[01][0-9]", r"(yes|no)( é)*", r"日+"):
        constraint = GrammarTokens(TOKENS, special_ids=[END, PAD]).regex(pattern)
        for text in texts(constraint, 3, n_new=60):
            assert re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"type": "foo"}, "JSON schema cannot be used.*foo"),
        ({"type": "integer", "multipleOf": True}, "JSON schema cannot be used.*multipleOf"),
        ("{", "JSON schema cannot be used"),
        ({"type": "string", "pattern": "(?=a)b"}, "JSON schema cannot be used.*look"),
    ],
)
def test_schemas_that_cannot_be_followed_are_refused(schema: Any, found: str) -> None:
    peer("llguidance")
    with pytest.raises(UserError, match=found):
        GrammarTokens(TOKENS).json_schema(schema)
    with pytest.raises(UserError, match="regular expression cannot be used"):
        GrammarTokens(TOKENS).regex("(")


def test_without_the_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UserError, match=re.escape("-c constraints.txt -e '.[structured]'")):
        GrammarTokens(TOKENS)


def test_words_of_letters_only_can_be_constrained_too() -> None:
    letters = [letter.encode() for letter in string.ascii_lowercase]
    one = Choices(["abc", "abd"], letters)()
    one.accept(0)
    one.accept(1)
    assert one.allowed(5).nonzero()[:, 0].tolist() == [2, 3]
