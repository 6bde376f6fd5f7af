"""Load tokenizers: Hugging Face's tokenizer.json for BPE, ladder.json for characters and words.

GPT-2's own two files (encoder.json or vocab.json, vocab.bpe or merges.txt) and tiktoken's ranks are
read and written as well.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError, quoted
from groundup.base.files import atomic_folder, read_json, write_json, write_text
from groundup.tokenizer.bpe import BPETokenizer, Pair
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special import END_OF_TEXT, SPECIAL_TOKENS
from groundup.tokenizer.words import WordTokenizer


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load a tokenizer folder of ours or of Hugging Face, GPT-2's two files or tiktoken's ranks.

    Raises:
        UserError: There is no tokenizer that can be read.
    """
    place = Path(folder)
    if (place / "tokenizer.json").is_file():
        return _load_bpe(place / "tokenizer.json")
    if (place / "ladder.json").is_file():
        return _load_list(place / "ladder.json")
    for vocabulary, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if (place / vocabulary).is_file() and (place / merges).is_file():
            return load_gpt2(place / vocabulary, place / merges)
    ranks = [place] if place.suffix == ".tiktoken" else sorted(place.glob("*.tiktoken"))
    if len(ranks) == 1 and ranks[0].is_file():
        of_gpt2 = any(name in ranks[0].name for name in ("r50k", "p50k", "gpt2"))
        return load_tiktoken(ranks[0], "gpt2" if of_gpt2 else "gpt4")
    data = place.parent if place.name == "tokenizer" else place
    has_corpus = (data / "corpus" / "manifest.json").is_file()
    raise UserError(
        "There is no tokenizer. A folder with tokenizer.json is expected; "
        "`groundup train-tokenizer` writes one.",
        where=place,
        command=f"groundup train-tokenizer {quoted(data)}" if has_corpus else "",
    )


def load_gpt2(vocabulary: Path, merges: Path) -> BPETokenizer:
    """Read GPT-2's vocabulary and merges as OpenAI published them; the ids are GPT-2's."""
    ids: dict[str, int] = read_json(vocabulary)
    lines = merges.read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return _from_spelling(ids, pairs, "gpt2", {END_OF_TEXT: ids[END_OF_TEXT]}, vocabulary)


def load_tiktoken(
    path: Path, pattern: str, special_tokens: Sequence[str] = SPECIAL_TOKENS
) -> BPETokenizer:
    """Read a `.tiktoken` file: one line per token with its bytes in base64 and its rank, the id.

    The file contains neither pattern nor special tokens; the latter get the ids after the last
    rank. The merges are reconstructed: a token was merged from the two parts that its bytes merge
    into with the tokens before it.

    Raises:
        UserError: A line is not a token, or a token cannot be the result of merges.
    """
    table: list[bytes] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            spelled, rank = line.split()
            token = base64.b64decode(spelled, validate=True)
            if int(rank) != len(table):
                raise ValueError(f"rank {int(rank)} after {len(table) - 1}")
        except ValueError as error:
            raise UserError(
                f"This line is not a token ({error}). "
                "Bytes in base64, a space and the rank are expected.",
                where=f"{path}:{number}",
            ) from error
        table.append(token)
    special = {name: len(table) + i for i, name in enumerate(special_tokens)}
    merges = _find_merges(table, path)
    return BPETokenizer(merges, pattern=pattern, special_tokens=special, token_table=table)


def save_tiktoken(tokenizer: BPETokenizer, path: Path) -> None:
    """Write the ordinary tokens as tiktoken's ranks.

    Raises:
        UserError: Their ids are not in the order of the merges, or special tokens are among them.
    """
    special = set(tokenizer.special_tokens.values())
    table = [token for i, token in enumerate(tokenizer.token_table) if i not in special]
    every = tokenizer.token_table
    made = [tokenizer.id_of(every[left] + every[right]) for left, right in tokenizer.merges]
    if min(special, default=len(table)) < len(table) or made != sorted(made):
        raise UserError(
            "The ids of this vocabulary are not in the order of its merges, as tiktoken's files "
            "require. The format of tokenizer.json can represent it.",
        )
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(table)]
    write_text(path, "\n".join(lines) + "\n")


def save_gpt2(tokenizer: BPETokenizer, folder: Path) -> None:
    """Write GPT-2's two files, `vocab.json` and `merges.txt`."""
    spell = byte_spelling()
    special = {index: name for name, index in tokenizer.special_tokens.items()}

    def spelled(index: int) -> str:
        return special.get(index) or "".join(spell[b] for b in tokenizer.token_table[index])

    lines = [f"{spelled(left)} {spelled(right)}" for left, right in tokenizer.merges]
    with atomic_folder(folder) as temporary:
        vocabulary = {spelled(i): i for i in range(tokenizer.vocab_size)}
        write_json(temporary / "vocab.json", vocabulary)
        write_text(temporary / "merges.txt", "\n".join(["#version: 0.2", *lines]) + "\n")


def _find_merges(table: list[bytes], where: Path) -> list[Pair]:
    id_of = {token: index for index, token in enumerate(table)}
    merges = []
    for index, token in enumerate(table):
        if len(token) < 2:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            ranks = [
                id_of.get(left + right, index)
                for left, right in zip(parts[:-1], parts[1:], strict=True)
            ]
            best = min(ranks)
            if best >= index:
                break
            at = ranks.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) != 2 or not all(part in id_of for part in parts):
            raise UserError(
                f"Token {index} ({token!r}) cannot be merged from two earlier tokens. "
                "The ranks of a byte-level BPE tokenizer are expected.",
                where=where,
            )
        merges.append((id_of[parts[0]], id_of[parts[1]]))
    return merges


def _load_bpe(path: Path) -> BPETokenizer:
    description = read_json(path)
    model = description.get("model", {})
    if model.get("type") != "BPE":
        raise UserError(
            f"The tokenizer has type {model.get('type')}. Byte-level BPE is expected.", where=path
        )
    special = {token["content"]: token["id"] for token in description["added_tokens"]}
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    pattern = _find_pattern(description.get("pre_tokenizer") or {}, path)
    return _from_spelling(model["vocab"], merges, pattern, special, path)


def _find_pattern(pre_tokenizer: dict[str, Any], path: Path) -> str:
    for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        if step.get("type") == "Split":
            return str(step["pattern"]["Regex"])
        if step.get("type") == "ByteLevel" and step.get("use_regex", True):
            return PATTERNS["gpt2"]
    raise UserError(
        "The pre-tokenizer is unknown. A Split or ByteLevel pre-tokenizer is expected.", where=path
    )


def _from_spelling(
    vocabulary: dict[str, int],
    merges: list[tuple[str, ...]],
    pattern: str,
    special: dict[str, int],
    where: Path,
) -> BPETokenizer:
    byte_of = {character: value for value, character in enumerate(byte_spelling())}
    size = max([*vocabulary.values(), *special.values()]) + 1
    table = [b""] * size
    try:
        for spelled, index in vocabulary.items():
            if spelled not in special:
                table[index] = bytes(byte_of[character] for character in spelled)
        pairs: list[Pair] = [(vocabulary[left], vocabulary[right]) for left, right in merges]
        for name, index in special.items():
            table[index] = name.encode("utf-8")
        return BPETokenizer(pairs, pattern=pattern, special_tokens=special, token_table=table)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The vocabulary is not byte-level ({error}). "
            "Tokens in GPT-2's printable characters are expected.",
            where=where,
        ) from error


def _load_list(path: Path) -> Tokenizer:
    description = json.loads(path.read_text(encoding="utf-8"))
    tokens, special = description["tokens"], description["special_tokens"]
    match description["kind"]:
        case "characters":
            return CharacterTokenizer(tokens, special_tokens=special)
        case "words":
            return WordTokenizer(tokens, special_tokens=special)
        case kind:
            raise UserError(
                f"The tokenizer has the kind {kind!r}. 'characters' or 'words' is expected.",
                where=path,
            )
