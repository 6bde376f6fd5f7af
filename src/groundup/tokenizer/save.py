"""Write a tokenizer folder: Hugging Face's tokenizer.json for BPE, ladder.json for the others.

Other libraries can load our tokenizer.json, with identical ids. `vocabulary.txt` is for people to
read; its contents are read by no program.
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, write_json, write_text
from groundup.tokenizer.dialect import OtherMeaningError, to_oniguruma
from groundup.tokenizer.pretokens import PATTERNS, compile_pattern
from groundup.tokenizer.special_names import save_end_of_text

READABLE = "vocabulary.txt"
TYPED_PATTERN = "groundup_pattern"
"""Field of the Split step with the pattern as it was typed, if Oniguruma needs another spelling."""


@runtime_checkable
class ByteLevelBPE(Protocol):
    """The parts of a byte-level BPE tokenizer that are saved."""

    token_table: list[bytes]
    merges: list[tuple[int, int]]
    pattern: str
    special_tokens: dict[str, int]

    @property
    def vocab_size(self) -> int:
        """The number of ids, including special tokens."""
        ...

    def token_bytes(self, index: int) -> bytes:
        """Return the bytes of one id."""
        ...


def save_bpe(tokenizer: ByteLevelBPE, folder: Path) -> None:
    """Write tokenizer.json (Hugging Face schema) and vocabulary.txt, both or neither."""
    lines = [f"{i}\t{tokenizer.token_bytes(i)!r}" for i in range(tokenizer.vocab_size)]
    with atomic_folder(folder) as temporary:
        write_json(temporary / "tokenizer.json", describe_bpe(tokenizer))
        write_text(temporary / READABLE, "\n".join(lines) + "\n")
        save_end_of_text(tokenizer, temporary)


def describe_bpe(tokenizer: ByteLevelBPE) -> dict[str, Any]:
    """Describe a tokenizer in the schema of Hugging Face's tokenizer.json.

    Raises:
        UserError: Other libraries would read other ids.
    """
    spell = byte_spelling()

    def spelled(token: bytes) -> str:
        return "".join(spell[value] for value in token)

    table = tokenizer.token_table
    skipped = set(tokenizer.special_tokens.values())
    vocabulary = {spelled(token): i for i, token in enumerate(table) if i not in skipped and token}
    special = sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
    for name, index in special:
        if name in vocabulary:
            raise UserError(
                f"The special token {name!r} (id {index}) is written like the ordinary token "
                f"{vocabulary[name]}. A tokenizer.json cannot tell the two apart.",
            )
    if [index for _, index in special] != [*range(len(vocabulary), len(table))]:
        # Other libraries number special tokens from the end on, unless the vocabulary has them.
        vocabulary |= special
    merges = [[spelled(table[a]), spelled(table[b])] for a, b in tokenizer.merges]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, index in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                describe_split(tokenizer.pattern),
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": byte_level_model(vocabulary, merges),
    }


def describe_split(pattern: str) -> dict[str, Any]:
    """Describe the step that cuts text by a pattern, which other libraries cut alike.

    Raises:
        UserError: It is not a regular expression, or their engine cannot express it.
    """
    compile_pattern(pattern)
    try:
        written = to_oniguruma(PATTERNS.get(pattern, pattern))
    except OtherMeaningError as error:
        raise UserError(
            f"The pattern {pattern[:200]!r} cannot be saved: other libraries read it otherwise "
            f"from {str(error)!r} on. Classes, groups and repetitions are expected.",
            settings={"pattern": "gpt4"},
        ) from error
    split = {
        "type": "Split",
        "pattern": {"Regex": written},
        "behavior": "Isolated",
        "invert": False,
    }
    return split if written == pattern else split | {TYPED_PATTERN: pattern}


def save_list(folder: Path, kind: str, tokens: list[str], special_tokens: list[str]) -> None:
    """Write a character or word tokenizer as ladder.json."""
    with atomic_folder(folder) as temporary:
        write_json(
            temporary / "ladder.json",
            {"version": 1, "kind": kind, "tokens": tokens, "special_tokens": special_tokens},
        )


def byte_spelling() -> list[str]:
    """Return GPT-2's printable character for each byte, by byte value.

    Printable bytes are represented by themselves, the others by the characters from U+0100 on.
    Source: OpenAI's GPT-2 release (`bytes_to_unicode`).
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spelling, next_free = [], 256
    for value in range(256):
        if value in printable:
            spelling.append(chr(value))
        else:
            spelling.append(chr(next_free))
            next_free += 1
    return spelling


def byte_level_model(
    vocabulary: dict[str, int], merges: list[Any], *, ignore_merges: bool = False
) -> dict[str, Any]:
    """Describe byte-level BPE in the schema of tokenizer.json, with every field stated."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary,
        "merges": merges,
    }
