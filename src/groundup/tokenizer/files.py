"""Load tokenizers: Hugging Face's tokenizer.json for BPE, ladder.json for characters and words.

GPT-2's own two files (encoder.json or vocab.json, vocab.bpe or merges.txt) and tiktoken's ranks are
read and written as well.
"""

import sys
from pathlib import Path

from groundup.base.errors import UserError, joined, quoted
from groundup.base.files import atomic_folder, write_json, write_text
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.fields import read_object
from groundup.tokenizer.huggingface import from_spelling, load_tokenizer_json
from groundup.tokenizer.pretokens import splitter
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.ranks import load_tiktoken, published, save_tiktoken
from groundup.tokenizer.round_trip import CANARY
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special import END_OF_TEXT
from groundup.tokenizer.special_names import read_special_names
from groundup.tokenizer.words import WordTokenizer

__all__ = ["load_gpt2", "load_tiktoken", "load_tokenizer", "save_gpt2", "save_tiktoken"]


def load_tokenizer(folder: Path | str, *, pattern: str | None = None) -> Tokenizer:
    """Load a tokenizer folder of ours or of Hugging Face, GPT-2's two files or tiktoken's ranks.

    Args:
        folder: Folder with the files, or a `.tiktoken` file.
        pattern: Pattern that cuts text into pretokens, for the files that do not contain it:
            "gpt2", "gpt4" or a regular expression. None: the published one, where the file is known
            by its name.

    Raises:
        UserError: There is no tokenizer that can be read, or its pattern is not known.
    """
    place = Path(folder)
    if (place / "tokenizer.json").is_file():
        tokenizer = load_tokenizer_json(place / "tokenizer.json")
        tokenizer.eos_token = read_special_names(place).get("eos_token")
        return tokenizer
    if (place / "ladder.json").is_file():
        return _load_list(place / "ladder.json")
    for vocabulary, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if (place / vocabulary).is_file() and (place / merges).is_file():
            return load_gpt2(place / vocabulary, place / merges, pattern)
    ranks = [place] if place.suffix == ".tiktoken" else sorted(place.glob("*.tiktoken"))
    if len(ranks) > 1:
        raise UserError(
            f"There are {len(ranks)} files with ranks: {', '.join(file.name for file in ranks)}. "
            "The path of one of them is expected.",
            where=place,
        )
    if ranks and ranks[0].is_file():
        known = published(ranks[0])
        if pattern is None and known is None:
            raise _pattern_is_missing(ranks[0], "gpt2, r50k, p50k, cl100k and o200k")
        if known is None or pattern is not None:
            return load_tiktoken(ranks[0], pattern or "gpt4")
        return load_tiktoken(ranks[0], known.pattern, known.special_tokens_for(ranks[0]))
    if (place / "tokenizer").is_dir():  # a data folder, or a run
        return load_tokenizer(place / "tokenizer", pattern=pattern)
    data = place.parent if place.name == "tokenizer" else place
    has_corpus = (data / "corpus" / "manifest.json").is_file()
    raise UserError(
        "There is no tokenizer. A folder with tokenizer.json is expected; "
        "`groundup train-tokenizer` writes one.",
        where=place,
        command=f"groundup train-tokenizer {quoted(data)}" if has_corpus else "",
    )


def load_gpt2(vocabulary: Path, merges: Path, pattern: str | None = None) -> BPETokenizer:
    """Read a vocabulary and merges as OpenAI published GPT-2's; the ids are the same.

    The files do not contain the pattern. With `<|endoftext|>` it is GPT-2's, unless another is
    given; without it there are no special tokens, and the pattern has to be given.

    Raises:
        UserError: A file is not valid, or the pattern is not known.
    """
    ids = read_object(vocabulary).take_rest(int)
    special = {END_OF_TEXT: ids[END_OF_TEXT]} if END_OF_TEXT in ids else {}
    if pattern is None and not special:
        raise _pattern_is_missing(vocabulary, "a vocabulary with <|endoftext|>, as GPT-2's")
    try:
        lines = merges.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"This file is not UTF-8 ({error}).", where=merges) from error
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        parts = line.rstrip("\r").split(" ")
        if parts == [""] or line.startswith("#version"):
            continue
        if len(parts) != 2:
            raise UserError(
                f"This line is {line[:80]!r}. Two tokens with a space between them are expected.",
                where=f"{merges}:{number}",
            )
        pairs.append((parts[0], parts[1]))
    return from_spelling(ids, pairs, pattern or "gpt2", special, vocabulary)


def save_gpt2(tokenizer: BPETokenizer, folder: Path) -> None:
    """Write GPT-2's two files, `vocab.json` and `merges.txt`.

    Raises:
        UserError: They cannot represent the pattern or the special tokens.
    """
    cuts_alike = splitter(tokenizer.pattern)(CANARY) == splitter("gpt2")(CANARY)
    if tokenizer.special_tokens.keys() - {END_OF_TEXT} or (
        tokenizer.special_tokens and not cuts_alike
    ):
        raise UserError(
            "GPT-2's files contain neither the pattern nor which tokens are special. A tokenizer "
            "with GPT-2's pattern and no special token but <|endoftext|> is expected; the format "
            "of tokenizer.json can represent this one.",
        )
    spell = byte_spelling()
    special = {index: name for name, index in tokenizer.special_tokens.items()}

    def spelled(index: int) -> str:
        return special.get(index) or "".join(spell[b] for b in tokenizer.token_table[index])

    lines = [f"{spelled(left)} {spelled(right)}" for left, right in tokenizer.merges]
    with atomic_folder(folder) as temporary:
        vocabulary = {spelled(i): i for i in range(tokenizer.vocab_size)}
        write_json(temporary / "vocab.json", vocabulary)
        write_text(temporary / "merges.txt", "\n".join(["#version: 0.2", *lines]) + "\n")


def _pattern_is_missing(path: Path, known: str) -> UserError:
    place = path if path.suffix == ".tiktoken" else path.parent
    code = (
        "from groundup.tokenizer.files import load_tokenizer; "
        f"load_tokenizer({str(place)!r}, pattern='gpt2').save('tokenizer')"
    )
    return UserError(
        "This file does not contain the pattern that cuts a text before tokens are looked up, and "
        f"the ids depend on it. It is known for {known}; for others, the argument `pattern` of "
        "load_tokenizer is expected. In place of gpt2, write the pattern of this tokenizer.",
        where=path,
        command=joined([sys.executable, "-c", code]),
    )


def _load_list(path: Path) -> Tokenizer:
    file = read_object(path)
    file.take("version", 1, default=1)
    kind = file.take("kind", "characters", "words")
    tokens = file.take_names("tokens", 1 if kind == "characters" else None)
    special = file.take_names("special_tokens")
    file.refuse_others()
    if both := set(tokens) & set(special):
        file.refuse("special_tokens", special, f"Names other than {sorted(both)[0]!r} are expected")
    if kind == "characters":
        return CharacterTokenizer(tokens, special_tokens=special)
    return WordTokenizer(tokens, special_tokens=special)
