"""The special tokens that the settings beside a tokenizer name, and the one that ends a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from groundup.base.errors import UserError
from groundup.base.files import read_json, write_json
from groundup.tokenizer.special import END_OF_TEXT

SETTINGS_FILE = "tokenizer_config.json"
"""The file beside a tokenizer that has the names of its special tokens, and its chat template."""
COMMON_SETTINGS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
}
"""What transformers reads from a tokenizer_config.json, for every tokenizer."""


class HasSpecialTokens(Protocol):
    """A tokenizer; it may also have `eos_token`, the name of the token that ends a text."""

    special_tokens: dict[str, int]


def end_of_text_name(tokenizer: HasSpecialTokens) -> str | None:
    """Return the special token that ends a text; None if the tokenizer has none.

    It is `<|endoftext|>`, or else the eos_token of the tokenizer_config.json beside the tokenizer.
    """
    names = (END_OF_TEXT, getattr(tokenizer, "eos_token", None))
    return next((name for name in names if name in tokenizer.special_tokens), None)


def end_of_text_id(tokenizer: HasSpecialTokens) -> int | None:
    """Return the id of the special token that ends a text; None if the tokenizer has none."""
    name = end_of_text_name(tokenizer)
    return None if name is None else tokenizer.special_tokens[name]


def save_end_of_text(tokenizer: HasSpecialTokens, folder: Path) -> None:
    """Write a tokenizer_config.json if the name of the token that ends a text is needed in it."""
    name = end_of_text_name(tokenizer)
    if name not in (None, END_OF_TEXT):
        write_json(folder / SETTINGS_FILE, {**COMMON_SETTINGS, "eos_token": name})


def read_special_names(folder: Path) -> dict[str, str]:
    """Read the special tokens that the settings of a tokenizer's folder name.

    Raises:
        UserError: The file is not valid.
    """
    return special_names(read_settings(folder / SETTINGS_FILE))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a tokenizer_config.json; empty if there is none.

    Raises:
        UserError: The file is not valid.
    """
    about = read_json(path) if path.is_file() else {}
    if not isinstance(about, dict):
        raise UserError("This is not a JSON object with settings.", where=path)
    return about


def special_names(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that a tokenizer_config.json names, by the names of templates.

    >>> special_names({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None})
    {'bos_token': '<s>', 'eos_token': '</s>'}
    """
    found: dict[str, str] = {}
    for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        value = about.get(f"{name}_token")
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[f"{name}_token"] = value
    return found
