"""The bytes of a single token of an imported tokenizer, so that joined tokens are the text.

The decoder of the tokenizers library works on all tokens of a text at once. Tokens that are
generated come one at a time, and a character may be spread over several.
"""

import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.tokenizer.save import byte_spelling

Spell = Callable[[str], bytes]
"""From a token of the vocabulary to its bytes."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTE_TOKENS = [f"<0x{value:02X}>" for value in range(256)]


def steps_of(step: Any) -> list[dict[str, Any]]:
    """List the steps of a field that may be a sequence, also of sequences."""
    if not step:
        return []
    if step.get("type") != "Sequence":
        return [step]
    parts: list[Any] = next((value for key, value in step.items() if key != "type"), [])
    return [each for part in parts for each in steps_of(part)]


def is_byte_level(description: Mapping[str, Any]) -> bool:
    """Whether the text is cut into bytes that are spelled as printable characters."""
    steps = steps_of(description.get("pre_tokenizer")) + steps_of(description.get("normalizer"))
    return any(step["type"] == "ByteLevel" for step in steps)


def check_no_text_vanishes(description: Mapping[str, Any], where: str | Path | None) -> None:
    """Check that every ordinary character has a token, or that there is one for unknown text.

    Some vocabularies lack control characters. The library leaves them out, as their owners do.

    Raises:
        UserError: The vocabulary lacks a byte of ASCII text.
    """
    model = description["model"]
    if model.get("type", "BPE") != "BPE" or model.get("unk_token") is not None:
        return
    spelled = byte_spelling() if is_byte_level(description) else _BYTE_TOKENS
    vocab = model["vocab"]
    has_bytes = is_byte_level(description) or model.get("byte_fallback")
    missing = [
        value
        for value in map(ord, string.printable)
        if not (has_bytes and spelled[value] in vocab) and chr(value) not in vocab
    ]
    n_missing = sum(token not in vocab for token in spelled)
    if set(missing) - {ord("\v"), ord("\f")}:
        raise UserError(
            f"The vocabulary has no token for {n_missing} of the 256 bytes, first for "
            f"{chr(missing[0])!r}, and no token for unknown text (unk_token), so that some text "
            "would vanish. A vocabulary that can represent every text is expected.",
            where=where,
        )


def token_speller(description: Mapping[str, Any], where: str | Path | None) -> Spell:
    """Return the function from a token to its bytes, as the decoder of the description has it.

    Raises:
        UserError: The decoder changes more than single tokens.
    """
    steps = steps_of(description.get("decoder"))
    kinds = [step["type"] for step in steps]
    if "ByteLevel" in kinds or (not kinds and is_byte_level(description)):
        return _byte_level
    changes: list[Callable[[str], str]] = []
    has_bytes = False
    for step in steps:
        match step["type"]:
            case "Replace":
                pattern, content = step["pattern"], step["content"]
                literal = pattern if isinstance(pattern, str) else pattern.get("String")
                if literal is None:
                    _refuse(step, where)
                changes.append(_replace(literal, content))
            case "Metaspace":
                changes.append(_replace(step.get("replacement", "▁"), " "))
            case "BPEDecoder":
                changes.append(_replace(step.get("suffix", "</w>"), " "))
            case "WordPiece":
                changes.append(_word_piece(step.get("prefix", "##")))
            case "ByteFallback":
                has_bytes = True
            case "Fuse":
                pass
            case "Strip":  # the space before a text; here the tokens of a continued text are equal
                if (step["content"], step["stop"]) != (" ", 0) or step["start"] > 1:
                    _refuse(step, where)
            case _:
                _refuse(step, where)
    if not steps:  # the library puts spaces between the tokens
        return lambda token: b" " + token.encode("utf-8")

    def spell(token: str) -> bytes:
        if has_bytes and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        for change in changes:
            token = change(token)
        return token.encode("utf-8")

    return spell


def _refuse(step: Mapping[str, Any], where: str | Path | None) -> None:
    raise UserError(
        f"The field decoder has the step {step['type']}, which is not supported with these "
        "settings. A step that changes single tokens is expected.",
        where=where,
    )


_OF_CHARACTER = {character: value for value, character in enumerate(byte_spelling())}


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_OF_CHARACTER[character] for character in token])
    except KeyError:  # a token that is not spelled
        return token.encode("utf-8")


def _replace(old: str, new: str) -> Callable[[str], str]:
    return lambda token: token.replace(old, new)


def _word_piece(prefix: str) -> Callable[[str], str]:
    return lambda token: token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
