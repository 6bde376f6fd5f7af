"""Write a tokenizer folder: Hugging Face's tokenizer.json for BPE, ladder.json for the others.

Other libraries can load our tokenizer.json, with identical ids. `vocabulary.txt` is for people to
read; no program reads it.
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from groundup.base.files import atomic_folder, write_json, write_text


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
        write_text(temporary / "vocabulary.txt", "\n".join(lines) + "\n")


def describe_bpe(tokenizer: ByteLevelBPE) -> dict[str, Any]:
    """Describe a tokenizer in the schema of Hugging Face's tokenizer.json."""
    spell = byte_spelling()

    def spelled(token: bytes) -> str:
        return "".join(spell[value] for value in token)

    table = tokenizer.token_table
    skipped = set(tokenizer.special_tokens.values())
    vocabulary = {spelled(token): i for i, token in enumerate(table) if i not in skipped}
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
            for name, index in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": tokenizer.pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
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
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


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
