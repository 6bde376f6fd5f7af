"""The data of a training run: a tokenizer, and the token stores that were encoded with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.base.folder_kinds import not_data
from groundup.data.manifest import is_store
from groundup.data.mixture import Mixture
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.model.config import GPTConfig
from groundup.text.corpus import SIDES, no_corpus
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.replacing import another_folder
from groundup.train.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Data:
    """The training set and the validation set; of a mixture, those of its first text."""

    tokenizer: Tokenizer
    train: TokenStore
    validation: TokenStore
    weight: float = 1.0
    """How often this text is sampled, relative to the others of a mixture."""
    others: tuple["Data", ...] = ()
    """The other texts of a mixture."""

    @property
    def texts(self) -> "tuple[Data, ...]":
        """All texts, each with its share of the samples as weight; the shares sum to 1."""
        total = sum(text.weight for text in (self, *self.others))
        return tuple(
            replace(text, weight=text.weight / total, others=()) for text in (self, *self.others)
        )

    @property
    def n_train_tokens(self) -> int:
        """Number of training tokens of all texts."""
        return sum(text.train.n_tokens for text in (self, *self.others))

    @property
    def n_tokens_per_pass(self) -> int:
        """Number of training tokens until a text has been read once.

        Of a mixture, that is the text that is read most often.
        """
        return int(min(text.train.n_tokens / text.weight for text in self.texts))


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


def open_texts(texts: Sequence[tuple[Path, float]]) -> Data:
    """Open data folders with their weights: one, or a mixture.

    Raises:
        WrongTokenizerError: They were encoded with different tokenizers.
        UserError: One of them is missing, or is there twice.
    """
    opened = [replace(_open(folder, texts), weight=weight) for folder, weight in texts]
    first, place = opened[0], texts[0][0]
    for number, (data, (folder, _)) in enumerate(zip(opened, texts, strict=True)):
        if data.tokenizer.fingerprint != first.tokenizer.fingerprint:
            tokenizer = f"--tokenizer {quoted(place / 'tokenizer')}"
            again = another_folder(folder, "encode", options=tokenizer)
            raise WrongTokenizerError(
                f"This data was encoded with another tokenizer than {place}, with which it is to "
                "be mixed. One tokenizer for all is expected.",
                where=folder,
                command=again if (folder / "corpus").is_dir() else "",
            )
        if any(folder.resolve() == other.resolve() for other, _ in texts[:number]):
            raise UserError(
                "This data folder is in the mixture twice. Each one is expected once.", where=folder
            )
    return replace(first, others=tuple(opened[1:]))


def _open(folder: Path, texts: Sequence[tuple[Path, float]]) -> Data:
    try:
        return open_data(folder)
    except WrongTokenizerError:
        raise
    except UserError as error:
        if len(texts) == 1:
            raise
        # Other settings than the mixture would not help.
        raise UserError(error.message, where=error.where, command=error.command) from error


def training_windows(config: PretrainConfig, data: Data) -> Windows | Mixture:
    """Make the windows of an epoch of the training set, or of a mixture of training sets.

    Raises:
        UserError: A text is too short for a window, or no text has several documents to separate.
    """
    stores = [text.train for text in data.texts]
    if config.documents != "stream" and all(store.n_documents < 2 for store in stores):
        raise UserError(
            "The training set is one document, so there are no documents to separate. Several "
            "documents are expected, or windows over a stream.",
            where=stores[0].folder,
            settings={"documents": "stream"},
        )
    parts = []
    for store in stores:
        with errors_at(store):
            T, stride = config.model.context_length, config.stride
            parts.append(Windows(store, T, stride, config.coverage, config.documents))
    if not data.others:
        return parts[0]
    return Mixture(parts, [text.weight for text in data.texts])


@contextmanager
def errors_at(store: TokenStore) -> Iterator[None]:
    """Name the store in every UserError of the block."""
    try:
        yield
    except UserError as error:
        raise UserError(error.message, where=store.folder, settings=error.settings) from error


def with_vocabulary(config: PretrainConfig, data: Data) -> PretrainConfig:
    """The settings with the vocabulary size of the tokenizer."""
    model: GPTConfig = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, model=model)
