"""Read Hugging Face's tokenizer.json: every field that decides ids is honored or refused by name.

Our own BPE computes a byte-level BPE `model` (also of the old form without `type`, with merges as
strings), no normalizer, a `ByteLevel` pre-tokenizer, or one `Split` with behavior `Isolated` before
it, special tokens, and whatever does not change ids. Everything else that the tokenizers library
knows is run by that library.
"""

import re
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.components import check_components, texts_of_template
from groundup.tokenizer.dialect import OtherMeaningError, from_oniguruma, to_oniguruma
from groundup.tokenizer.fields import Fields, read_object
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.round_trip import check_round_trip
from groundup.tokenizer.save import READABLE, TYPED_PATTERN, byte_spelling
from groundup.tokenizer.table import as_table


class _NotOursError(Exception):
    """Our BPE cannot compute this, and the tokenizers library may."""


def load_tokenizer_json(path: Path) -> BPETokenizer | ImportedTokenizer:
    """Read a tokenizer.json.

    Raises:
        UserError: It is not valid, or it has a field that is not known.
    """
    return from_description(read_object(path).take_rest(object), path)


def from_description(content: dict[str, Any], where: Path) -> BPETokenizer | ImportedTokenizer:
    """Build a tokenizer from the content of a tokenizer.json.

    Raises:
        UserError: It is not valid, or it has a field that is not known.
    """
    check_components(Fields(content, "", where))
    try:
        return _as_ours(Fields(content, "", where))
    except _NotOursError:
        vocabulary = content["model"]["vocab"]
        if not isinstance(vocabulary, dict):
            vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
        _read_added_tokens(Fields(content, "", where), vocabulary)
        return ImportedTokenizer(content, where=where)


def _as_ours(file: Fields) -> BPETokenizer:
    """Read the fields as our BPE, after their types were checked.

    Raises:
        _NotOursError: Our BPE does not compute this.
        UserError: It is not valid.
    """
    if _steps(file, "normalizer", "normalizers"):
        raise _NotOursError
    pattern = _read_pre_tokenizer(file)
    if not _adds_nothing(file):
        raise _NotOursError
    if [kind for kind, _ in _steps(file, "decoder", "decoders")] not in ([], ["ByteLevel"]):
        raise _NotOursError
    if file.has("added_tokens") and not all(map(_is_plain, file.peek("added_tokens"))):
        raise _NotOursError
    vocabulary, merges, ignores_merges = _read_model(file)
    special, has_one_kind = _read_added_tokens(file, vocabulary)
    if not has_one_kind:
        raise _NotOursError
    if not all(character in vocabulary for character in byte_spelling()):
        raise _NotOursError
    made = from_spelling(vocabulary, merges, pattern, special, file.path)
    if ignores_merges and not _every_token_is_merged(made):
        raise _NotOursError
    return made


def from_spelling(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    pattern: str,
    special: dict[str, int],
    where: Path,
) -> BPETokenizer:
    """Build a tokenizer from tokens in GPT-2's printable characters.

    Raises:
        UserError: The vocabulary is not byte-level, or contradicts the merges.
    """
    byte_of = {character: value for value, character in enumerate(byte_spelling())}
    tokens: dict[int, bytes] = {}
    for spelled, index in vocabulary.items():
        if spelled in special:
            continue
        try:
            token = bytes(byte_of[character] for character in spelled)
        except KeyError as error:
            raise UserError(
                f"The token {spelled[:40]!r} (id {index}) is not byte-level: it has the character "
                f"{error.args[0]!r}. Tokens in GPT-2's printable characters are expected.",
                where=where,
            ) from error
        if index in tokens:
            raise UserError(
                f"The tokens {tokens[index]!r} and {token!r} have the same id {index}.", where=where
            )
        tokens[index] = token
    for name, index in special.items():
        if index in tokens:
            raise UserError(
                f"The special token {name!r} and the token {tokens[index]!r} have the same id "
                f"{index}.",
                where=where,
            )
        tokens[index] = name.encode("utf-8")
    for rank, pair in enumerate(merges):
        if unknown := [part for part in pair if part not in vocabulary or part in special]:
            raise UserError(
                f"Merge {rank} is {pair!r}, and {unknown[0][:40]!r} is not an ordinary token of "
                "the vocabulary.",
                where=where,
            )
    special_ids = set(special.values())
    try:
        made = BPETokenizer(
            [(vocabulary[left], vocabulary[right]) for left, right in merges],
            pattern=pattern,
            special_tokens=special,
            token_table=as_table({i: t for i, t in tokens.items() if i not in special_ids}),
        )
    except UserError as error:
        raise UserError(error.message, where=where, settings=error.settings) from error
    check_round_trip(made, where)
    return made


def _steps(file: Fields, name: str, parts: str) -> list[tuple[str, Fields]]:
    """Return the steps of a field that may be a sequence, each with its type."""
    step = file.take_object(name)
    if step is None:
        return []
    kind = step.take("type", str)
    if kind != "Sequence":
        return [(kind, step)]
    steps = step.take_objects(parts)
    return [(part.take("type", str), part) for part in steps]


def _read_pre_tokenizer(file: Fields) -> str:
    """Return the pattern of the pre-tokenizer."""
    steps = _steps(file, "pre_tokenizer", "pretokenizers")
    if [kind for kind, _ in steps] not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise _NotOursError
    _, byte_level = steps[-1]
    is_alone = len(steps) == 1
    if byte_level.take("add_prefix_space", bool) or is_alone != byte_level.take(
        "use_regex", bool, default=True
    ):
        raise _NotOursError
    return PATTERNS["gpt2"] if is_alone else _read_split(steps[0][1])


def _read_split(split: Fields) -> str:
    if split.take("behavior", str) != "Isolated":
        raise _NotOursError
    split.take("invert", bool)  # what is isolated is so whether it matches or not
    pattern = split.take_object("pattern")
    typed = split.take(TYPED_PATTERN, str, None, default=None)
    split.refuse_others()
    if pattern is None:
        return split.refuse("pattern", None, "An object with Regex or String is expected")
    literal = pattern.take("String", str, None, default=None)
    if literal is not None:
        pattern.refuse_others()
        if not literal:
            return pattern.refuse("String", literal, "A text of at least one character is expected")
        return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", literal)
    written = str(pattern.take("Regex", str))
    pattern.refuse_others()
    try:
        if typed is not None:
            if to_oniguruma(typed) == written:
                return str(typed)
            return split.refuse(TYPED_PATTERN, typed, "The same pattern as in Regex is expected")
        # Files of earlier versions of this package have the pattern as it was typed.
        own = (split.path.parent / READABLE).is_file()
        return written if own else from_oniguruma(written)
    except OtherMeaningError as error:
        raise _NotOursError from error


def _adds_nothing(file: Fields) -> bool:
    """Whether the post-processor adds no token to a text."""
    for kind, step in _steps(file, "post_processor", "processors"):
        parts = step.take("single", list, default=None) if kind == "TemplateProcessing" else None
        is_text_alone = parts is not None and len(parts) == 1 and texts_of_template(parts) == ["A"]
        if kind != "ByteLevel" and not is_text_alone:
            return False
    return True


def _read_model(file: Fields) -> tuple[dict[str, int], list[tuple[str, str]], bool]:
    """Return the vocabulary, the merges and whether tokens are taken without merging."""
    model = file.take_object("model")
    if model is None:
        return file.refuse("model", None, "An object with vocab and merges is expected")
    if model.take("type", str, default="BPE") != "BPE":  # files of 2019 do not have it
        raise _NotOursError
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.take(name, str, None, default=None):
            raise _NotOursError
    # With a token for every byte, nothing is unknown: unk_token and byte_fallback do not matter.
    ignores_merges = bool(model.take("ignore_merges", None, bool, default=None))
    vocabulary = model.take("vocab", dict)
    listed = model.take("merges", list)
    merges: list[tuple[str, str]] = []
    is_text = bool(listed) and isinstance(listed[0], str)
    for rank, merge in enumerate(listed):
        pair = merge.split(" ") if is_text and isinstance(merge, str) else merge
        if is_text and isinstance(merge, str) and merge.startswith("#version"):
            continue
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(part, str) for part in pair)
        ):
            model.refuse(f"merges[{rank}]", merge, "A pair of tokens is expected")
        merges.append((pair[0], pair[1]))
    return vocabulary, merges, ignores_merges


def _is_plain(token: dict[str, Any]) -> bool:
    """Whether an added token is special, and found as it is written."""
    return token["special"] and not any(token[flag] for flag in ("single_word", "lstrip", "rstrip"))


def _read_added_tokens(file: Fields, vocabulary: dict[str, int]) -> tuple[dict[str, int], bool]:
    """Return the added tokens, and whether all or none of them are normalized.

    The file states their ids, but the library counts them.
    """
    found: dict[str, int] = {}
    normalized: set[bool] = set()
    taken = set(vocabulary.values())
    last = -1
    for token in file.take_objects("added_tokens", default=[]):
        name, index = token.take("content", str), token.take("id", int)
        normalized.add(token.take("normalized", bool))
        own = last + 1 if last >= len(vocabulary) else len(vocabulary)
        if index != (counted := vocabulary.get(name, own)):
            token.refuse("id", index, f"The id {counted} is expected for {name[:40]!r}")
        if name not in vocabulary and index in taken:
            other = next(each for each, held in vocabulary.items() if held == index)
            token.refuse("id", index, f"{other[:40]!r} has this id. Another one is expected")
        found[name] = index
        last = max(last, index)
    return found, len(normalized) <= 1


def _every_token_is_merged(tokenizer: BPETokenizer) -> bool:
    special = set(tokenizer.special_tokens.values())
    tokens = [
        (index, token)
        for index, token in enumerate(tokenizer.token_table)
        if token and index not in special
    ]
    if len(tokens) != len(tokenizer.merges) + 256:  # as of Llama 3: several ways to some tokens
        return False
    return all(tokenizer.merge_bytes(token) == [index] for index, token in tokens)
