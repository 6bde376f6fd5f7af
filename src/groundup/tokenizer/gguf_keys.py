"""The keys of a GGUF file that describe a tokenizer, from a tokenizer.json.

llama.cpp knows how a text is cut by a name only, `tokenizer.ggml.pre`. A tokenizer whose steps have
no such name is refused.

Source: https://github.com/ggml-org/llama.cpp, conversion/base.py and src/llama-vocab.cpp.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.gguf import PRE
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.save import describe_bpe, describe_split

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_GPT2 = PRE["gpt-2"][0]["pattern"]["Regex"]
_LATER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CROSSES_LAST_NEWLINE = re.compile(rb"[\r\n][^\r\n]+\Z")
_LONG_S = "ſ".encode()


@dataclass(frozen=True, kw_only=True)
class GGUFTokenizer:
    """What a file says about a tokenizer."""

    keys: Mapping[str, Any]
    """The keys without those of special tokens, with their complete names."""
    notes: tuple[str, ...] = ()
    """Sentences on texts that llama.cpp encodes otherwise."""


def gguf_tokenizer(
    tokenizer: Tokenizer, description: Mapping[str, Any], n_rows: int
) -> GGUFTokenizer:
    """Describe a tokenizer for llama.cpp.

    Args:
        tokenizer: The tokenizer.
        description: The content of its tokenizer.json.
        n_rows: Rows of the embedding. Those without a token are marked as not used.

    Raises:
        UserError: llama.cpp has no such tokenizer; the message states what it lacks.
    """
    notes: list[str] = []
    if isinstance(tokenizer, BPETokenizer):
        # In one spelling, whatever the file had.
        description = {**describe_bpe(tokenizer), "pre_tokenizer": _pre_tokenizer_of(tokenizer)}
        notes += _notes_on_pattern(tokenizer)
    model = description.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        found = model.get("type") if isinstance(model, dict) else "another kind"
        raise UserError(
            f"The tokenizer is {found}. llama.cpp reads byte-level BPE and SentencePiece's BPE "
            "from a GGUF file."
        )
    tokens, types = _tokens(description, model, n_rows)
    keys: dict[str, Any] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    normalizers = _flat(description.get("normalizer"), "normalizers")
    steps = _flat(description.get("pre_tokenizer"), "pretokenizers")
    if model.get("byte_fallback") and not steps:
        kind, more = "llama", _sentencepiece_keys(model, normalizers, tokens)
    else:
        kind, more = (
            "gpt2",
            {
                "tokenizer.ggml.pre": _pre(steps, ignores_merges=bool(model.get("ignore_merges"))),
                "tokenizer.ggml.merges": _merges(model),
            },
        )
        notes += _notes_on_normalizers(normalizers)
    begins = list(getattr(tokenizer, "begin_ids", []))
    if len(begins) > 1:
        raise UserError(f"Texts begin with the {len(begins)} ids {begins}. llama.cpp adds one.")
    more["tokenizer.ggml.add_bos_token"] = bool(begins)
    if begins:
        more["tokenizer.ggml.bos_token_id"] = begins[0]
    keys = {"tokenizer.ggml.model": kind, **keys, **more}
    return GGUFTokenizer(keys=keys, notes=tuple(notes))


def _tokens(
    description: Mapping[str, Any], model: Mapping[str, Any], n_rows: int
) -> tuple[list[str], list[int]]:
    """List the token and its type for each row of the embedding."""
    tokens = [f"[PAD{index}]" for index in range(n_rows)]
    types = [_UNUSED] * n_rows
    for token, index in model["vocab"].items():
        is_byte = model.get("byte_fallback") and _BYTE_TOKEN.fullmatch(token)
        tokens[index], types[index] = token, _BYTE if is_byte else _NORMAL
        if token == model.get("unk_token"):
            types[index] = _UNKNOWN
    for added in description.get("added_tokens") or []:
        index = added["id"]
        tokens[index] = added["content"]
        if types[index] != _UNKNOWN:
            types[index] = _CONTROL if added["special"] else _USER_DEFINED
    return tokens, types


def _merges(model: Mapping[str, Any]) -> list[str]:
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    if not merges:
        raise UserError("The tokenizer has no merges. llama.cpp expects one at least.")
    return merges


def _flat(step: Any, inside: str) -> list[dict[str, Any]]:
    """List the steps of a sequence, or the one step."""
    if step is None:
        return []
    if step.get("type") == "Sequence":
        return [each for part in step[inside] for each in _flat(part, inside)]
    return [step]


def _split_pattern(step: Mapping[str, Any]) -> str | None:
    """The pattern of a step that cuts at each match and between two of them."""
    pattern = step.get("pattern")
    is_plain = step.get("behavior") == "Isolated" and not step.get("invert")
    if step.get("type") != "Split" or not is_plain or not isinstance(pattern, dict):
        return None
    return pattern.get("Regex")


def _canonical(steps: list[dict[str, Any]]) -> list[str]:
    """Name each step, so that steps with the same effect have the same name."""
    named = []
    for step in steps:
        pattern = _split_pattern(step)
        if pattern is not None:
            named.append(_SAME_PATTERNS.get(pattern, pattern))
        elif step.get("type") == "Digits" and step.get("individual_digits"):
            named.append("digits")
        elif step.get("type") == "Split" and step.get("behavior") == "MergedWithNext":
            continue  # read from a GGUF file without some bytes: llama.cpp does it by itself
        elif step.get("type") == "ByteLevel" and not step.get("add_prefix_space"):
            named += ["gpt2", "bytes"] if step.get("use_regex", True) else ["bytes"]
        else:
            named.append(f"{step.get('type')}")
    return named


_SAME_PATTERNS = {
    _GPT2: "gpt2",
    describe_split("gpt2")["pattern"]["Regex"]: "gpt2",
    describe_split("gpt4")["pattern"]["Regex"]: "numbers of 3",
    **{_LATER % numbers: name for numbers, name in ((r"\p{N}", "numbers of 1"),
                                                   (r"\p{N}{1,3}", "numbers of 3"))},
    PRE["qwen2"][0]["pattern"]["Regex"]: "numbers of 1",
    PRE["llama-bpe"][0]["pattern"]["Regex"]: "numbers of 3",
}  # fmt: skip
_NAMES = {
    ("gpt2", "bytes"): "gpt-2",
    ("digits", "gpt2", "bytes"): "smollm",
    ("numbers of 1", "bytes"): "qwen2",
    ("numbers of 3", "bytes"): "dbrx",
    (*_canonical(PRE["default"]), "bytes"): "default",
}


def _pre(steps: list[dict[str, Any]], *, ignores_merges: bool) -> str:
    """Find llama.cpp's name of the steps that cut a text.

    Raises:
        UserError: It has none.
    """
    named = tuple(_canonical(steps))
    found = _NAMES.get(named)
    if found == "dbrx" and ignores_merges:
        return "llama-bpe"
    if found is None or ignores_merges:
        shown = ", ".join(name[:60] for name in named) or "nothing"
        raise UserError(
            f"The tokenizer cuts a text by: {shown}{' (ignore_merges)' if ignores_merges else ''}. "
            f"llama.cpp has no name for it; {', '.join([*_NAMES.values(), 'llama-bpe'])} are known."
        )
    return found


def _sentencepiece_keys(
    model: Mapping[str, Any], normalizers: list[dict[str, Any]], tokens: list[str]
) -> dict[str, Any]:
    """Write the order of merges as scores: the token of an earlier merge has a better one."""
    kinds = [step.get("type") for step in normalizers]
    replaced = [(s.get("pattern"), s.get("content")) for s in normalizers if s["type"] == "Replace"]
    if kinds not in (["Replace"], ["Prepend", "Replace"]) or replaced != [
        ({"String": " "}, _SPACE)
    ]:
        raise UserError(
            f"The tokenizer normalizes a text by: {', '.join(map(str, kinds)) or 'nothing'}. "
            "llama.cpp replaces spaces, and may put one before the text."
        )
    ranks: dict[str, int] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, len(ranks))
    lowest = -float(len(ranks))
    return {
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [
            -float(ranks[token]) if token in ranks else lowest for token in tokens
        ],
        "tokenizer.ggml.add_space_prefix": "Prepend" in kinds,
    }


def _pre_tokenizer_of(tokenizer: BPETokenizer) -> dict[str, Any]:
    pattern = tokenizer.pattern
    written = (
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        if pattern in _SAME_PATTERNS
        else describe_split(pattern)
    )
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [written, byte_level]}


def _notes_on_pattern(tokenizer: BPETokenizer) -> list[str]:
    """Name the texts that the pattern "gpt4" cuts otherwise than llama.cpp does.

    It takes white space at the end of a text as one piece, and the letter ſ for an s after an
    apostrophe. Both only matter where a token reaches over the place of the cut.
    """
    if tokenizer.pattern != PATTERNS["gpt4"]:
        return []
    tokens = [token for token in tokenizer.token_table if token]
    notes = []
    if any(_CROSSES_LAST_NEWLINE.search(t) and not t.strip() for t in tokens):
        notes.append(
            "llama.cpp encodes spaces after the last line break of a text in other tokens."
        )
    if any(_LONG_S in token and token != _LONG_S for token in tokens):
        notes.append("llama.cpp encodes an apostrophe before the letter ſ in other tokens.")
    return notes


def _notes_on_normalizers(normalizers: list[dict[str, Any]]) -> list[str]:
    kinds = [str(step.get("type")) for step in normalizers]
    if kinds == ["NFC"]:
        return [
            "The tokenizer composes characters (NFC) before it encodes a text, and llama.cpp does "
            "not: it encodes letters with separate accents in other tokens."
        ]
    if kinds:
        raise UserError(
            f"The tokenizer normalizes a text by: {', '.join(kinds)}. llama.cpp does not."
        )
    return []
