"""Add special tokens to a tokenizer, such as the chat tokens to the tokenizer of GPT-2."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json, write_json
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer


def with_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """Return a copy with further special tokens, which get the ids after the last one.

    The ids of all other tokens stay the same.

    Raises:
        UserError: The tokenizer is of a kind that takes no further tokens.
    """
    missing = [name for name in names if name not in tokenizer.special_tokens]
    if not missing:
        return tokenizer
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tokenizer"
        tokenizer.save(folder)
        description, change = folder / "tokenizer.json", _add_to_bpe
        if not description.is_file():
            description, change = folder / "ladder.json", _add_to_list
        if not description.is_file():
            raise UserError(
                f"The tokenizer has no {', '.join(missing)}, and a {type(tokenizer).__name__} "
                "takes no further tokens. A tokenizer with these special tokens is expected."
            )
        content = read_json(description)
        change(content, missing, tokenizer.vocab_size)
        write_json(description, content)
        return load_tokenizer(folder)


def _add_to_bpe(content: dict[str, Any], names: Sequence[str], first: int) -> None:
    """Add to a tokenizer.json; a token that is there already, but not special, keeps its id."""
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    held = (
        vocabulary
        if isinstance(vocabulary, dict)
        else {name: i for i, (name, _) in enumerate(vocabulary)}
    )
    for name in names:
        # In its place: other libraries count the ids of these tokens in the order of the file.
        place = next((i for i, token in enumerate(added) if token["content"] == name), None)
        if place is not None:
            added[place] = _special_token(name, added[place]["id"])
            continue
        index = held.get(name)
        if index is None:
            index, first = first, first + 1
            last = max((token["id"] for token in added), default=-1)
            counted = last + 1 if last >= len(held) else len(held)
            if index != counted and isinstance(vocabulary, dict):  # the vocabulary has holes
                vocabulary[name] = index
        added.append(_special_token(name, index))


def _special_token(name: str, index: int) -> dict[str, Any]:
    """Describe a special token in the schema of tokenizer.json."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": name, **flags, "special": True}


def _add_to_list(content: dict[str, Any], names: Sequence[str], first: int) -> None:
    """Add to a ladder.json, where the special tokens follow the others in order."""
    content["special_tokens"] += names
