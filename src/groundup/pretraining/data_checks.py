"""Checks before a run starts: its data, its tokenizer and its number of steps."""

import itertools
from collections.abc import Iterator

import numpy as np

from groundup.base.copies import RunIndex, hash_runs
from groundup.base.targets import IGNORE_INDEX
from groundup.data.loader import Loader
from groundup.data.protocol import Tokens
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special_names import end_of_text_name
from groundup.train.curve_checks import Finding
from groundup.train.data import Data

LEAK = "validation leak"
TARGETS = "next-token targets"
VOCABULARY = "vocabulary"
LENGTH = "enough text"
ENDINGS = "end-of-text token"
DATA_RULES = (LEAK, TARGETS, VOCABULARY, LENGTH, ENDINGS)
MAX_EPOCHS = 40.0
"""With more epochs than this a model overfits."""

_LEAK_TOKENS = 32  # two texts do not share a run this long by coincidence
_LEAK_SHARE = 0.05
_LEAK_SAMPLES = 4096
_BLOCK = 2**20


def check_data(
    data: Data, loader: Loader, *, steps: int | None, max_train_tokens: int | None = None
) -> Iterator[Finding]:
    """Look for problems in the data that training cannot correct.

    Args:
        data: Training and validation data.
        loader: Makes the batches; its position does not change.
        steps: Optimizer steps of the whole run. None: a budget decides, and ends a run that would
            overfit.
        max_train_tokens: Search only this much of the training text for validation passages;
            None: all of it.
    """
    for text, other in itertools.product(data.texts, repeat=2):
        where = f" ({text.train.folder} and {other.validation.folder})" if data.others else ""
        yield from _leak(text.train, other.validation, max_train_tokens, where)
    yield from _targets(loader)
    for text in data.texts:
        yield from _vocabulary(text.train, data.tokenizer)
    yield from _length(loader, steps)
    for text in data.texts:
        yield from _endings(text.train, data.tokenizer)


def leaked_share(train: Tokens, validation: Tokens, max_train_tokens: int | None = None) -> float:
    """Return the share of validation passages of 32 tokens that also occur in the training text.

    Up to 4,096 evenly spaced passages are searched for at every position of the training text.
    Each is represented by a 64-bit hash, so the text is read once and nothing of it is kept.
    """
    n_places = validation.n_tokens // _LEAK_TOKENS
    if n_places == 0 or train.n_tokens < _LEAK_TOKENS:
        return 0.0
    every = max(1, n_places // _LEAK_SAMPLES)
    passages = np.concatenate(
        [
            hash_runs(
                validation.read(place * _LEAK_TOKENS, (place + 1) * _LEAK_TOKENS), _LEAK_TOKENS
            )
            for place in range(0, n_places, every)
        ]
    )
    index = RunIndex(passages)
    found = []
    n_train = min(train.n_tokens, max_train_tokens or train.n_tokens)
    for start in range(0, n_train, _BLOCK):
        block = train.read(start, min(n_train, start + _BLOCK + _LEAK_TOKENS - 1))
        hashes = hash_runs(block, _LEAK_TOKENS)
        found.append(hashes[index.find(hashes)])
    return float(np.isin(passages, np.concatenate(found)).mean())


def _leak(
    train: Tokens, validation: Tokens, max_train_tokens: int | None, where: str
) -> Iterator[Finding]:
    share = leaked_share(train, validation, max_train_tokens)
    if share > _LEAK_SHARE:
        yield Finding(
            rule=LEAK,
            message=f"{share:.0%} of the validation passages also occur in the training text"
            f"{where}, so the validation loss measures memorization.",
            fix="Remove the copies from the text, and read it again with `groundup prepare`.",
        )


def _targets(loader: Loader) -> Iterator[Finding]:
    inputs, targets = loader.batch(0)
    counted = targets != IGNORE_INDEX
    same = float((inputs == targets)[counted].float().mean())
    if same > 0.9:
        yield Finding(
            rule=TARGETS,
            message=f"{same:.0%} of the targets equal their own input: there is nothing to "
            "predict.",
            fix="Targets are the inputs shifted by one token; groundup windows shows them.",
        )


def _vocabulary(train: Tokens, tokenizer: Tokenizer) -> Iterator[Finding]:
    largest = max(
        int(train.read(start, min(train.n_tokens, start + _BLOCK)).max())
        for start in range(0, train.n_tokens, max(_BLOCK, train.n_tokens // 8))
    )
    if largest >= tokenizer.vocab_size:
        yield Finding(
            rule=VOCABULARY,
            message=f"The text contains the token id {largest:,} and the tokenizer has "
            f"{tokenizer.vocab_size:,} ids: another tokenizer made these tokens.",
            fix="Encode the text again: groundup encode.",
        )


def _length(loader: Loader, steps: int | None) -> Iterator[Finding]:
    n_batches = loader.n_batches_per_epoch
    if n_batches < 1:
        yield Finding(
            rule=LENGTH,
            message=f"The training text fills only {n_batches:.2f} of a batch, so every batch "
            "contains the same windows.",
            fix=f"Use more text, or --batch-size {max(1, int(loader.batch_size * n_batches))}.",
        )
    elif steps is not None and steps > MAX_EPOCHS * n_batches:
        most = int(MAX_EPOCHS * n_batches)
        yield Finding(
            rule=LENGTH,
            message=f"The text has {n_batches:,.0f} batches for {steps:,} steps: the model sees "
            f"every token {steps / n_batches:,.0f} times and will overfit.",
            fix=f"Use more text, or fewer steps: --steps {most}.",
        )


def _endings(train: Tokens, tokenizer: Tokenizer) -> Iterator[Finding]:
    name = end_of_text_name(tokenizer)
    if name is None:
        yield Finding(
            rule=ENDINGS,
            message="The tokenizer names no token that ends a text, so the text contains none: the "
            "model will never end a text by itself.",
            fix="Name it as eos_token in a tokenizer_config.json beside the tokenizer.json, and "
            "encode the text again: groundup encode --tokenizer FOLDER --overwrite.",
        )
        return
    end = tokenizer.special_tokens[name]
    # The end-of-text token is the last one before the next document.
    ends = [*train.document_starts[1:1001].tolist(), train.n_tokens]
    if not any(int(train.read(stop - 1, stop)[0]) == end for stop in ends if stop > 0):
        yield Finding(
            rule=ENDINGS,
            message=f"The tokenizer has {name}, but the text never contains it: the model "
            "will never end a text by itself.",
            fix="Encode the text again, which ends every document with it: groundup encode.",
        )
