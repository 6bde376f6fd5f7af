"""From the prepared corpus to token stores: DATA/corpus becomes DATA/train, DATA/validation."""

from pathlib import Path

from groundup.data.store import TokenStore
from groundup.text.corpus import read_corpus
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END_OF_TEXT


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
            sources=[document.name for document in read_corpus(data, side)],
        )
        for side in ("train", "validation")
    }
