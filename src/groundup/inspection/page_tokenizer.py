"""A tokenizer as data for a page, for `templates/tokenizer.js`."""

from typing import Any

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.words import WordTokenizer

_SPACE = r"\p{White_Space}"
_NO_SPACE = r"\P{White_Space}"
_JAVASCRIPT = {
    PATTERNS["gpt2"]: PATTERNS["gpt2"],
    # Without the possessive quantifiers, which JavaScript does not have: none of them changes a
    # match, because what follows each one begins with other characters. The long s is the one
    # other letter that is equal to a letter of the contractions if case does not count.
    PATTERNS["gpt4"]: (
        r"'(?:[sdmtSDMTſ]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
}


def page_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Describe a tokenizer so that a page can encode and decode with it.

    Raises:
        UserError: The page cannot compute the same ids.
    """
    special = tokenizer.special_tokens
    if isinstance(tokenizer, BPETokenizer):
        pattern = _JAVASCRIPT.get(tokenizer.pattern)
        if pattern is None:
            raise UserError(
                "The model does not run inside this page, which cuts text by the patterns gpt2 and "
                "gpt4 only. The tokenizer has another one."
            )
        return {
            "kind": "bpe",
            # JavaScript's \s has other characters than that of the regex package.
            "pattern": pattern.replace(r"\s", _SPACE).replace(r"\S", _NO_SPACE),
            # One character for each byte.
            "tokens": [token.decode("latin-1") for token in tokenizer.token_table],
            "merges": tokenizer.merges,
            "special": special,
        }
    if isinstance(tokenizer, CharacterTokenizer):
        return {"kind": "characters", "tokens": tokenizer.characters, "special": special}
    if isinstance(tokenizer, WordTokenizer):
        return {"kind": "words", "tokens": tokenizer.words, "special": special}
    raise UserError(
        "The model does not run inside this page, which knows byte-level BPE, characters and "
        "words. Its tokenizer is of another kind."
    )
