"""The data of a training run: a tokenizer, and the token stores that were encoded with it."""

from dataclasses import dataclass, replace
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.base.folder_kinds import not_data
from groundup.data.manifest import is_store
from groundup.data.store import TokenStore
from groundup.model.config import GPTConfig
from groundup.text.corpus import SIDES, no_corpus
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Data:
    """The training set and the validation set."""

    tokenizer: Tokenizer
    train: TokenStore
    validation: TokenStore


class WrongTokenizerError(UserError):
    """The token stores were encoded with another tokenizer than the one in the data folder."""


def open_data(data: Path) -> Data:
    """Open a data folder's tokenizer and both stores.

    Raises:
        WrongTokenizerError: The stores were encoded with another or a larger tokenizer.
        UserError: One of them is missing.
    """
    if (wrong := not_data(data)) is not None:
        raise wrong
    if not (data / "corpus").is_dir() and not any(is_store(data / side) for side in SIDES):
        raise no_corpus(data)
    stores = {side: TokenStore.open(data / side) for side in SIDES}
    tokenizer = load_tokenizer(data / "tokenizer")
    for side, store in stores.items():
        if store.tokenizer_fingerprint != tokenizer.fingerprint:
            found = f"These tokens were encoded with another tokenizer than {data / 'tokenizer'}."
        elif store.vocab_size > tokenizer.vocab_size:
            found = (
                f"These tokens have a vocabulary of {store.vocab_size:,}, and the tokenizer has "
                f"{tokenizer.vocab_size:,} tokens."
            )
        else:
            continue
        raise WrongTokenizerError(
            f"{found} Encode the text again.",
            where=data / side,
            command=f"groundup encode {quoted(data)}",
        )
    return Data(tokenizer=tokenizer, train=stores["train"], validation=stores["validation"])


def with_vocabulary(config: PretrainConfig, data: Data) -> PretrainConfig:
    """The settings with the vocabulary size of the tokenizer."""
    model: GPTConfig = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, model=model)
