"""The parts of a tokenizer.json that the tokenizers library computes, with the fields of each.

The library ignores a field that it does not know. Here such a field is refused by name, because it
may change the ids; what is listed is computed by the library.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from groundup.base.errors import UserError
from groundup.tokenizer.fields import Fields
from groundup.tokenizer.save import TYPED_PATTERN
from groundup.tokenizer.table import MOST_HOLES

_TEXT = (str,)
_BOOL = (bool,)
_INT = (int,)
_OPTIONAL_BOOL = (bool, None)
_PATTERN = (dict, str)
_PAIR = (list,)

Kinds = dict[str, dict[str, tuple[Any, ...]]]
"""Fields by type of component, with the types or values that are expected."""

NORMALIZERS: Kinds = {
    "BertNormalizer": {
        "clean_text": _BOOL,
        "handle_chinese_chars": _BOOL,
        "strip_accents": _OPTIONAL_BOOL,
        "lowercase": _BOOL,
    },
    "Strip": {"strip_left": _BOOL, "strip_right": _BOOL},
    "StripAccents": {},
    "NFC": {},
    "NFD": {},
    "NFKC": {},
    "NFKD": {},
    "Lowercase": {},
    "Nmt": {},
    "Precompiled": {"precompiled_charsmap": (str, None)},
    "Replace": {"pattern": _PATTERN, "content": _TEXT},
    "Prepend": {"prepend": _TEXT},
    "ByteLevel": {},
}
PRE_TOKENIZERS: Kinds = {
    "BertPreTokenizer": {},
    "ByteLevel": {"add_prefix_space": _BOOL, "trim_offsets": _BOOL, "use_regex": _BOOL},
    "CharDelimiterSplit": {"delimiter": _TEXT},
    "Metaspace": {
        "replacement": _TEXT,
        "prepend_scheme": ("always", "first", "never"),
        "split": _BOOL,
        "add_prefix_space": _BOOL,
        "str_rep": _TEXT,
    },
    "Whitespace": {},
    "WhitespaceSplit": {},
    "Split": {
        "pattern": _PATTERN,
        "behavior": _TEXT,
        "invert": _BOOL,
        TYPED_PATTERN: (str, None),
    },
    "Punctuation": {"behavior": _TEXT},
    "Digits": {"individual_digits": _BOOL},
    "UnicodeScripts": {},
    "FixedLength": {"length": _INT},
}
PROCESSORS: Kinds = {
    "ByteLevel": {"add_prefix_space": _BOOL, "trim_offsets": _BOOL, "use_regex": _BOOL},
    "TemplateProcessing": {"single": (list,), "pair": (list,), "special_tokens": (dict,)},
    "RobertaProcessing": {
        "sep": _PAIR,
        "cls": _PAIR,
        "trim_offsets": _BOOL,
        "add_prefix_space": _BOOL,
    },
    "BertProcessing": {"sep": _PAIR, "cls": _PAIR},
}
DECODERS: Kinds = {
    "ByteLevel": {"add_prefix_space": _BOOL, "trim_offsets": _BOOL, "use_regex": _BOOL},
    "Metaspace": PRE_TOKENIZERS["Metaspace"],
    "WordPiece": {"prefix": _TEXT, "cleanup": _BOOL},
    "BPEDecoder": {"suffix": _TEXT},
    "Replace": {"pattern": _PATTERN, "content": _TEXT},
    "ByteFallback": {},
    "Fuse": {},
    "Strip": {"content": _TEXT, "start": _INT, "stop": _INT},
}
MODELS: Kinds = {
    "BPE": {
        "dropout": (None, 0, 0.0),
        "unk_token": (str, None),
        "continuing_subword_prefix": (str, None),
        "end_of_word_suffix": (str, None),
        "fuse_unk": _OPTIONAL_BOOL,
        "byte_fallback": _OPTIONAL_BOOL,
        "ignore_merges": _OPTIONAL_BOOL,
        "vocab": (dict,),
        "merges": (list,),
    },
    "WordPiece": {
        "unk_token": _TEXT,
        "continuing_subword_prefix": _TEXT,
        "max_input_chars_per_word": _INT,
        "vocab": (dict,),
    },
    "WordLevel": {"vocab": (dict,), "unk_token": _TEXT},
    "Unigram": {"unk_id": (int, None), "vocab": (list,), "byte_fallback": _OPTIONAL_BOOL},
}
_SEQUENCES = {
    "normalizer": ("normalizers", NORMALIZERS),
    "pre_tokenizer": ("pretokenizers", PRE_TOKENIZERS),
    "post_processor": ("processors", PROCESSORS),
    "decoder": ("decoders", DECODERS),
}
_ADDED = ("single_word", "lstrip", "rstrip", "normalized", "special")


def check_components(file: Fields) -> None:
    """Check that a tokenizer.json consists of known parts with known fields.

    Raises:
        UserError: A part, a field or a value is not known.
    """
    file.take("version", "1.0", None, default=None)
    for name, does in (("truncation", "leaves out ids"), ("padding", "adds ids")):
        if (value := file.take(name, object, default=None)) is not None:
            file.refuse(name, value, f"It {does}, which is not supported. null is expected")
    for name, (parts, kinds) in _SEQUENCES.items():
        _each_step(file.take_object(name), parts, partial(_check, kinds))
    model = file.take_object("model")
    if model is None:
        file.refuse("model", None, "An object with vocab is expected")
    _check_model(model)
    _check_added_tokens(file)
    file.refuse_others()


def _each_step(step: Fields | None, parts: str, visit: Callable[[Fields], None]) -> None:
    if step is None:
        return
    if step.peek("type") != "Sequence":
        visit(step)
        return
    step.take("type", str)
    for part in step.take_objects(parts):
        _each_step(part, parts, visit)
    step.refuse_others()


def _check(kinds: Kinds, step: Fields) -> None:
    kind = step.take("type", str)
    if kind not in kinds:
        step.refuse("type", kind, f"One of {', '.join(kinds)} is expected")
    for name, expected in kinds[kind].items():
        if not step.has(name):
            continue
        value = step.take(name, *expected)
        if name == "single" and texts_of_template(value) != ["A"]:
            step.refuse(name, value, "A template with the text (Sequence A) once is expected")
    step.refuse_others()


def texts_of_template(template: list[Any]) -> list[Any]:
    """Return the ids of the texts in a template of `TemplateProcessing`: A, and B in a pair."""
    parts = [part.get("Sequence") for part in template if isinstance(part, dict)]
    return [part.get("id") for part in parts if isinstance(part, dict)]


def _check_model(model: Fields) -> None:
    # Files of 2019 do not state the type of the model.
    kind = model.take("type", str, default="BPE")
    if kind not in MODELS:
        model.refuse("type", kind, f"One of {', '.join(MODELS)} is expected")
    found: dict[str, Any] = {}
    for name, expected in MODELS[kind].items():
        if model.has(name):
            found[name] = model.take(name, *expected)
    model.refuse_others()
    if "vocab" not in found:
        model.take("vocab", dict)
    if kind == "Unigram":
        for number, entry in enumerate(found["vocab"]):
            if (
                not isinstance(entry, list)
                or len(entry) != 2
                or not isinstance(entry[0], str)
                or isinstance(entry[1], bool)
                or not isinstance(entry[1], int | float)
            ):
                model.refuse(f"vocab[{number}]", entry, "A token and its score are expected")
        return
    indices = found["vocab"].values()
    if set(map(type, indices)) <= {int} and len(set(indices)) == len(indices):
        seen = dict.fromkeys(indices, "")
    else:
        seen = _checked_one_by_one(model, found["vocab"])
    if seen and not 0 <= min(seen) <= max(seen) < 2 * len(seen) + MOST_HOLES:
        raise UserError(
            f"The vocabulary has {len(seen)} tokens with ids from {min(seen)} to {max(seen)}. "
            "Ids from 0 on with few holes are expected.",
            where=model.path,
        )


def _checked_one_by_one(model: Fields, vocab: dict[str, Any]) -> dict[int, str]:
    """Find the entry that is wrong."""
    seen: dict[int, str] = {}
    for token, index in vocab.items():
        if type(index) is not int:
            model.refuse(f"vocab[{token[:40]!r}]", index, "An integer is expected")
        if seen.setdefault(index, token) != token:
            raise UserError(
                f"The tokens {seen[index][:40]!r} and {token[:40]!r} have the same id {index}.",
                where=model.path,
            )
    return seen


def _check_added_tokens(file: Fields) -> None:
    names: set[str] = set()
    for token in file.take_objects("added_tokens", default=[]):
        name = token.take("content", str)
        token.take("id", int)
        for flag in _ADDED:
            token.take(flag, bool)
        token.refuse_others()
        if not name or name in names or any("\ud800" <= c < "\ue000" for c in name):
            token.refuse("content", name, "A text that occurs once is expected")
        names.add(name)
