"""The data of bench_gpu.py, where no text with GPT-2's tokenizer is given."""

import json
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from groundup.data.store import TokenStore
from groundup.tokenizer.characters import CharacterTokenizer

_FIRST_CHARACTER = 0x20000
"""From here on there are 900,000 characters and no surrogate."""

_DOCUMENT_TOKENS = 600
_DOCUMENT_CHARACTERS = 2000
"""Length of a document, for isolated documents."""


def random_data(folder: Path, vocab_size: int, n_tokens: int) -> None:
    """Write a data folder of random documents: a step takes as long with them as with a text."""
    characters = map(chr, range(_FIRST_CHARACTER, _FIRST_CHARACTER + vocab_size - 1))
    ids = np.random.default_rng(0).integers(vocab_size - 1, size=n_tokens)
    _write(folder, CharacterTokenizer(characters), ids)


def write_documents(text: Path, out: Path) -> None:
    """Write the paragraphs of a text as JSON lines, several in a document."""
    documents = [""]
    for paragraph in text.read_text(encoding="utf-8").split("\n\n"):
        if len(documents[-1]) > _DOCUMENT_CHARACTERS:
            documents.append("")
        documents[-1] += paragraph + "\n\n"
    lines = (json.dumps({"text": document}) for document in documents)
    out.write_text("\n".join(lines), encoding="utf-8")


def character_data(folder: Path, text: Path | None, most: int | None) -> None:
    """Write a data folder of characters. None: of the texts that Python ships."""
    words = "\n".join(topics.values()) if text is None else text.read_text(encoding="utf-8")
    tokenizer = CharacterTokenizer.from_text(words[:most])
    _write(folder, tokenizer, np.array(tokenizer.encode(words[:most])))


def _write(folder: Path, tokenizer: CharacterTokenizer, ids: np.ndarray) -> None:
    tokenizer.save(folder / "tokenizer")
    cut = int(0.9 * len(ids))  # as in nanoGPT's data sets
    for side, part in (("train", ids[:cut]), ("validation", ids[cut:][:200_000])):
        TokenStore.build(
            folder / side,
            np.array_split(part, max(1, len(part) // _DOCUMENT_TOKENS)),
            vocab_size=tokenizer.vocab_size,
            tokenizer_fingerprint=tokenizer.fingerprint,
            end_of_text=None,
        )
