"""Which pairs train, which ones choose the best step, and which ones test."""

from collections.abc import Sequence
from dataclasses import dataclass

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.encoding import EncodedPair
from groundup.base.errors import UsageError
from groundup.records.splits import Split, split
from groundup.text.near_duplicates import PROMPT_RULE, group_near_duplicates, has_near_duplicate


@dataclass(frozen=True)
class PairSplit:
    """The pairs of the three sets."""

    train: list[EncodedPair]
    validation: list[EncodedPair]
    test: list[EncodedPair]

    @property
    def shown(self) -> list[EncodedPair]:
        """The pairs for samples: the test set, or, in cross-validation, the validation set."""
        return self.test or self.validation

    def distinct(self) -> list[int]:
        """Return the numbers of the test pairs whose prompt has no near duplicate in training."""
        near = has_near_duplicate(
            [pair.pair.prompt for pair in self.test],
            [pair.pair.prompt for pair in self.train],
            PROMPT_RULE,
        )
        return [i for i, is_near in enumerate(near) if not is_near]


def split_pairs(pairs: Sequence[EncodedPair], n_read: int, config: PreferConfig) -> PairSplit:
    """Split pairs as the settings say.

    For cross-validation there is no test set.

    Args:
        pairs: The pairs that can be trained on.
        n_read: Number of pairs that were read. The order of the book counts all of them.
        config: The settings.

    Raises:
        UsageError: A set would be empty.
    """
    group = group_near_duplicates([pair.pair.prompt for pair in pairs], PROMPT_RULE).group
    if config.folds is not None:
        rows = split(
            None, group, test_frac=config.validation_frac, validation_frac=0.0, seed=config.seed
        )
        found = Split(rows.train, rows.test, [])
    elif config.split_column is not None:
        parts = ("train", "validation", "test")
        train, validation, test = (
            [i for i, p in enumerate(pairs) if p.pair.part == part] for part in parts
        )
        found = Split(train, validation, test, "given")
    elif config.split == "in-order":
        n_test = int(config.test_frac * n_read)
        n_train = int((1 - config.test_frac - config.validation_frac) * n_read)  # the book's
        places = [(p.number >= n_train) + (p.number >= n_train + n_test) for p in pairs]
        train, test, validation = ([i for i, p in enumerate(places) if p == k] for k in range(3))
        found = Split(train, validation, test, "given")
    else:
        found = split(
            None,
            group,
            test_frac=config.test_frac,
            validation_frac=config.validation_frac,
            seed=config.seed,
            how=config.split,
        )
    sets = [[pairs[i] for i in rows] for rows in (found.train, found.validation, found.test)]
    if not all(sets[: 2 if config.folds else 3]):
        n_train, n_validation, n_test = map(len, sets)
        settings = {"test_frac": 0.3, "validation_frac": 0.2}
        raise UsageError(
            f"{len(pairs)} pairs make a training set of {n_train}, a validation set of "
            f"{n_validation} and a test set of {n_test}. At least one pair in each is expected.",
            settings=settings if config.split_column is None else {"split_column": None},
        )
    return PairSplit(*sets)
