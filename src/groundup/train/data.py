"""The data of a training run: a tokenizer, and the token stores that were made with it."""

from dataclasses import dataclass, replace
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.data.store import TokenStore
from groundup.model.config import GPTConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learnt from, and what is held out."""

    tokenizer: Tokenizer
    train: TokenStore
    validation: TokenStore


class WrongTokenizerError(UserError):
    """Tokens were made with another tokenizer than the one beside them."""


def open_data(data: Path) -> Data:
    """Open a data folder's tokenizer and both stores.

    Raises:
        WrongTokenizerError: The stores were made with another tokenizer, or for a larger one.
        UserError: One is missing.
    """
    if not data.is_dir():
        raise UserError(
            "there is no data folder here",
            need="data made by prepare and train-tokenizer",
            where=data,
            type_this=f"groundup prepare --out {quoted(data)} && "
            f"groundup train-tokenizer {quoted(data)}",
        )
    stores = {side: TokenStore.open(data / side) for side in ("train", "validation")}
    tokenizer = load_tokenizer(data / "tokenizer")
    for side, store in stores.items():
        if store.tokenizer_fingerprint != tokenizer.fingerprint:
            found = f"the {side} tokens were made with another tokenizer than {data / 'tokenizer'}"
        elif store.vocab_size > tokenizer.vocab_size:
            found = (
                f"the {side} tokens may be any of {store.vocab_size:,} and the tokenizer knows "
                f"{tokenizer.vocab_size:,}"
            )
        else:
            continue
        raise WrongTokenizerError(
            found,
            need="stores made anew",
            where=data / side,
            type_this=f"groundup train-tokenizer {quoted(data)}",
        )
    return Data(tokenizer=tokenizer, train=stores["train"], validation=stores["validation"])


def with_vocabulary(config: PretrainConfig, data: Data) -> PretrainConfig:
    """The settings with the model's vocabulary as large as the tokenizer's."""
    model: GPTConfig = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, model=model)
