"""From the prepared corpus to token stores: DATA/corpus becomes DATA/train, DATA/validation."""

import shutil
from pathlib import Path

from groundup.base.files import read_json, sha256_file
from groundup.data.store import TokenStore, is_store
from groundup.text.corpus import corpus_file, read_corpus
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END_OF_TEXT

SIDES = ("train", "validation")


def encode_corpus(data: Path, tokenizer: Tokenizer) -> dict[str, TokenStore]:
    """Encode both sides of DATA/corpus; text is always ordinary text, never a special token.

    Raises:
        UserError: There is no corpus, or the stores cannot be written.
    """
    return {
        side: TokenStore.build(
            data / side,
            (tokenizer.encode(document.text) for document in read_corpus(data, side)),
            vocab_size=tokenizer.vocab_size,
            tokenizer_fingerprint=tokenizer.fingerprint,
            end_of_text=tokenizer.special_tokens.get(END_OF_TEXT),
            sources=_sources(data, side),
        )
        for side in SIDES
    }


def remove_outdated(data: Path) -> list[Path]:
    """Remove the stores whose text is no longer the corpus beside them; give their folders.

    Only token stores are removed, and only those that the present corpus would not give.
    """
    outdated = []
    for side in SIDES:
        folder = data / side
        if is_store(folder):
            made_from = read_json(folder / "manifest.json").get("sources")
            if made_from != _sources(data, side):
                shutil.rmtree(folder)
                outdated.append(folder)
    return outdated


def _sources(data: Path, side: str) -> list[str]:
    """What a store is made from: the corpus file and its SHA-256."""
    if not corpus_file(data, side).is_file():
        return []
    return [f"corpus/{side}.jsonl sha256:{sha256_file(corpus_file(data, side))}"]
