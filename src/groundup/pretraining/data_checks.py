"""What can be wrong with a run before it starts: its data, its tokenizer, its length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from groundup.base.targets import IGNORE_INDEX
from groundup.data.loader import Loader
from groundup.data.protocol import Tokens
from groundup.pretraining.curve_checks import Finding
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END_OF_TEXT
from groundup.train.data import Data

LEAK = "validation leak"
TARGETS = "targets are the next tokens"
VOCABULARY = "vocabulary"
LENGTH = "enough text for the steps"
ENDINGS = "end of text"
DATA_RULES = (LEAK, TARGETS, VOCABULARY, LENGTH, ENDINGS)
MOST_PASSES = 40.0
"""More passes over a text and a model learns it by heart."""

_LEAK_TOKENS = 32  # a run of so many tokens is not written twice by chance
_LEAK_SHARE = 0.05
_LEAK_SAMPLES = 4096
_BLOCK = 2**20


def check_data(
    data: Data, loader: Loader, *, steps: int, max_train_tokens: int | None = None
) -> Iterator[Finding]:
    """Look for what no training can mend.

    Args:
        data: What is learnt from, and what is held out.
        loader: Gives the batches; its position does not move.
        steps: Of the whole run.
        max_train_tokens: Search the training text for held-out passages only so far; None: all.
    """
    yield from _leak(data.train, data.validation, max_train_tokens)
    yield from _targets(loader)
    yield from _vocabulary(data.train, data.tokenizer)
    yield from _length(loader, steps)
    yield from _endings(data.train, data.tokenizer)


def leaked_share(train: Tokens, held_out: Tokens, max_train_tokens: int | None = None) -> float:
    """Share of held-out passages of 32 tokens that stand in the training text, word for word.

    Up to 4,096 passages, spread evenly, are looked for at every place of the training text; each
    is known by a 64-bit hash, so the text is read once and nothing of it is kept.
    """
    n_places = held_out.n_tokens // _LEAK_TOKENS
    if n_places == 0 or train.n_tokens < _LEAK_TOKENS:
        return 0.0
    every = max(1, n_places // _LEAK_SAMPLES)
    passages = np.concatenate(
        [
            _hashes(held_out.read(place * _LEAK_TOKENS, (place + 1) * _LEAK_TOKENS))
            for place in range(0, n_places, every)
        ]
    )
    wanted = np.unique(passages)
    # Most places are ruled out by 16 bits of their hash; only the rest is looked up.
    possible = np.zeros(2**16, dtype=bool)
    possible[wanted >> np.uint64(48)] = True
    found = np.zeros(len(wanted), dtype=bool)
    n_train = min(train.n_tokens, max_train_tokens or train.n_tokens)
    for start in range(0, n_train, _BLOCK):
        hashes = _hashes(train.read(start, min(n_train, start + _BLOCK + _LEAK_TOKENS - 1)))
        hashes = hashes[possible[hashes >> np.uint64(48)]]
        places = np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)
        found[places[wanted[places] == hashes]] = True
    return float(np.isin(passages, wanted[found]).mean())


def _hashes(tokens: NDArray[np.integer]) -> NDArray[np.uint64]:
    """A polynomial hash of each run of 32 tokens, modulo 2^64, in five passes by doubling."""
    factor = 0x9E3779B97F4A7C15  # odd, far from small numbers; 2^64 / golden ratio
    hashed = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(factor)
    hashed ^= hashed >> np.uint64(29)
    width, power = 1, factor
    while width < _LEAK_TOKENS:
        hashed = hashed[:-width] * np.uint64(power) + hashed[width:]
        width, power = 2 * width, power * power % 2**64
    return hashed


def _leak(train: Tokens, held_out: Tokens, max_train_tokens: int | None) -> Iterator[Finding]:
    share = leaked_share(train, held_out, max_train_tokens)
    if share > _LEAK_SHARE:
        yield Finding(
            rule=LEAK,
            seen=f"{share:.0%} of the held-out passages stand word for word in the training text, "
            "so the held-out loss measures memory",
            cure="Prepare the data anew; it keeps copies on one side: groundup prepare",
        )


def _targets(loader: Loader) -> Iterator[Finding]:
    inputs, targets = loader.batch(0)
    counted = targets != IGNORE_INDEX
    same = float((inputs == targets)[counted].float().mean())
    if same > 0.9:
        yield Finding(
            rule=TARGETS,
            seen=f"{same:.0%} of the targets equal their own input: there is nothing to foretell",
            cure="Targets are the inputs one token further; see them with groundup windows",
        )


def _vocabulary(train: Tokens, tokenizer: Tokenizer) -> Iterator[Finding]:
    largest = max(
        int(train.read(start, min(train.n_tokens, start + _BLOCK)).max())
        for start in range(0, train.n_tokens, max(_BLOCK, train.n_tokens // 8))
    )
    if largest >= tokenizer.vocab_size:
        yield Finding(
            rule=VOCABULARY,
            seen=f"the text holds the id {largest:,} and the tokenizer knows "
            f"{tokenizer.vocab_size:,}: the tokens are not this tokenizer's",
            cure="Encode the text anew: groundup train-tokenizer",
        )


def _length(loader: Loader, steps: int) -> Iterator[Finding]:
    n_batches = loader.n_batches_per_epoch
    if n_batches < 1:
        yield Finding(
            rule=LENGTH,
            seen=f"the text fills {n_batches:.2f} of a batch: each batch holds the same windows",
            cure=f"More text, or --batch-size {max(1, int(loader.batch_size * n_batches))}",
        )
    elif steps > MOST_PASSES * n_batches:
        most = int(MOST_PASSES * n_batches)
        yield Finding(
            rule=LENGTH,
            seen=f"the text has {n_batches:,.0f} batches for {steps:,} steps: every token is seen "
            f"{steps / n_batches:,.0f} times, and learnt by heart",
            cure=f"More text helps more than more steps; or --steps {most}",
        )


def _endings(train: Tokens, tokenizer: Tokenizer) -> Iterator[Finding]:
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    if end is None:
        return
    # An ending stands right before the next document.
    ends = [*train.document_starts[1:1001].tolist(), train.n_tokens]
    if not any(int(train.read(stop - 1, stop)[0]) == end for stop in ends if stop > 0):
        yield Finding(
            rule=ENDINGS,
            seen=f"the tokenizer has {END_OF_TEXT} and the text never shows it: the model will "
            "never end a text by itself",
            cure="Encode the text anew, which closes every document: groundup train-tokenizer",
        )
