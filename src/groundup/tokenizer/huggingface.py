"""Read Hugging Face's tokenizer.json: every field that decides ids is honored or refused by name.

What is understood: a byte-level BPE `model` (also of the old form without `type`, with merges as
strings), no normalizer, a `ByteLevel` pre-tokenizer, or one `Split` with behavior `Isolated` before
it, special tokens, and whatever does not change ids.
"""

import re
from pathlib import Path

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.dialect import OtherMeaningError, from_oniguruma, to_oniguruma
from groundup.tokenizer.fields import Fields, read_object
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.round_trip import check_round_trip
from groundup.tokenizer.save import READABLE, TYPED_PATTERN, byte_spelling
from groundup.tokenizer.table import as_table


def load_tokenizer_json(path: Path) -> BPETokenizer:
    """Read a tokenizer.json.

    Raises:
        UserError: It is not valid, or it has a field that would change the ids.
    """
    file = read_object(path)
    file.take("version", "1.0", None, default=None)
    vocabulary, merges, ignores_merges = _read_model(file)
    _refuse_step(file, "normalizer", "It changes the text before it is cut into tokens")
    for name, does in (("truncation", "leaves out ids"), ("padding", "adds ids")):
        if (value := file.take(name, object, default=None)) is not None:
            file.refuse(name, value, f"It {does}, which is not supported. null is expected")
    pattern = _read_pre_tokenizer(file)
    _check_post_processor(file)
    _check_decoder(file)
    special = _read_added_tokens(file, vocabulary)
    file.refuse_others()
    made = from_spelling(vocabulary, merges, pattern, special, path)
    if ignores_merges:
        _check_every_token_is_merged(made, path)
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


def _refuse_step(file: Fields, name: str, why: str) -> None:
    step = file.take_object(name)
    if step is None:
        return
    kinds = [step.take("type", str, default="set")]
    if kinds == ["Sequence"]:
        kinds = [part.take("type", str) for part in step.take_objects(f"{name}s", default=[])]
    if kinds:
        raise UserError(
            f"The field {name} is {', '.join(kinds)}. {why}, which is not supported. "
            "A tokenizer without it (null) is expected.",
            where=file.path,
        )


def _steps(file: Fields, name: str, parts: str) -> list[tuple[str, Fields]]:
    """Return the steps of a field that may be a sequence, each with its type."""
    step = file.take_object(name)
    if step is None:
        return []
    kind = step.take("type", str)
    if kind != "Sequence":
        return [(kind, step)]
    steps = step.take_objects(parts)
    step.refuse_others()
    return [(part.take("type", str), part) for part in steps]


def _read_pre_tokenizer(file: Fields) -> str:
    """Return the pattern of the pre-tokenizer."""
    steps = _steps(file, "pre_tokenizer", "pretokenizers")
    kinds = [kind for kind, _ in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise UserError(
            f"The field pre_tokenizer has the steps {', '.join(kinds) or 'null'}, which are not "
            "supported. ByteLevel, or one Split before ByteLevel, is expected.",
            where=file.path,
        )
    _, byte_level = steps[-1]
    byte_level.take("add_prefix_space", False)
    byte_level.take("trim_offsets", bool, default=True)
    if len(steps) == 1:
        byte_level.take("use_regex", True, default=True)
        byte_level.refuse_others()
        return PATTERNS["gpt2"]
    byte_level.take("use_regex", False)
    byte_level.refuse_others()
    return _read_split(steps[0][1])


def _read_split(split: Fields) -> str:
    split.take("behavior", "Isolated")
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
        return pattern.refuse(
            "Regex",
            written,
            f"It is not supported from {str(error)!r} on, which other engines of regular "
            "expressions read otherwise. Classes, groups and repetitions are expected",
        )


def _check_post_processor(file: Fields) -> None:
    for kind, step in _steps(file, "post_processor", "processors"):
        if kind == "ByteLevel":  # changes offsets only
            continue
        single = step.take("single", list, default=None)
        if kind == "TemplateProcessing" and single is not None:
            added = [
                part for part in single if not isinstance(part, dict) or "Sequence" not in part
            ]
            if len(single) == 1 and not added:
                continue
        raise UserError(
            f"The field post_processor is {kind}, which adds tokens to every text. That is not "
            "supported. A tokenizer without it (null), or with ByteLevel, is expected.",
            where=file.path,
        )


def _check_decoder(file: Fields) -> None:
    kinds = [kind for kind, _ in _steps(file, "decoder", "decoders")]
    if kinds not in ([], ["ByteLevel"]):
        raise UserError(
            f"The field decoder is {', '.join(kinds)}, which is not supported. ByteLevel is "
            "expected.",
            where=file.path,
        )


def _read_model(file: Fields) -> tuple[dict[str, int], list[tuple[str, str]], bool]:
    """Return the vocabulary, the merges and whether tokens are taken without merging."""
    model = file.take_object("model")
    if model is None:
        return file.refuse("model", None, "An object with vocab and merges is expected")
    kind = model.take("type", str, default="BPE")  # files of 2019 do not have it
    if kind != "BPE":
        raise UserError(f"The tokenizer is of type {kind}. BPE is expected.", where=file.path)
    model.take("dropout", None, 0, 0.0, default=None)
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        model.take(name, None, "", default=None)
    # With a token for every byte, nothing is unknown.
    model.take("unk_token", None, str, default=None)
    for name in ("fuse_unk", "byte_fallback"):
        model.take(name, None, bool, default=None)
    ignores_merges = bool(model.take("ignore_merges", None, bool, default=None))
    vocabulary = model.take("vocab", dict)
    for token, index in vocabulary.items():
        if type(index) is not int:
            model.refuse(f"vocab[{token[:40]!r}]", index, "An integer is expected")
    listed = model.take("merges", list)
    model.refuse_others()
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


def _read_added_tokens(file: Fields, vocabulary: dict[str, int]) -> dict[str, int]:
    """Return the special tokens; the file states their ids, but tokenizers counts them."""
    special: dict[str, int] = {}
    normalized: set[bool] = set()
    for token in file.take_objects("added_tokens", default=[]):
        name = token.take("content", str)
        index = token.take("id", int)
        for flag in ("single_word", "lstrip", "rstrip"):
            token.take(flag, False)
        normalized.add(token.take("normalized", bool))
        if not token.take("special", bool):
            token.refuse(
                "special",
                False,
                f"The token {name[:40]!r} would be found in every text, which is not supported. "
                "Special tokens are expected",
            )
        token.refuse_others()
        if not name or name in special or any("\ud800" <= c < "\ue000" for c in name):
            token.refuse("content", name, "A text that occurs once is expected")
        last = max(special.values(), default=-1)
        own = last + 1 if last >= len(vocabulary) else len(vocabulary)
        if index != (counted := vocabulary.get(name, own)):
            token.refuse("id", index, f"The id {counted} is expected for {name[:40]!r}")
        special[name] = index
    if len(normalized) > 1:
        file.refuse("added_tokens", "partly normalized", "One value of normalized is expected")
    return special


def _check_every_token_is_merged(tokenizer: BPETokenizer, where: Path) -> None:
    special = set(tokenizer.special_tokens.values())
    for index, token in enumerate(tokenizer.token_table):
        if token and index not in special and tokenizer.merge_bytes(token) != [index]:
            raise UserError(
                f"The field model.ignore_merges is true, and the merges do not make the token "
                f"{token!r} (id {index}). A tokenizer whose merges make every token is expected.",
                where=where,
            )
