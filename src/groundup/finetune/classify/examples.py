"""The labeled texts of a classifier: read, divided into sets, and audited for repeated texts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from groundup.base.errors import UserError, as_usage_error
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.frozen import undersample
from groundup.finetune.classify.passages import PassageSplit
from groundup.records.labels import check_classes, check_seen, read_labels
from groundup.records.rows import LabeledText
from groundup.records.splits import Split, book_split, require_sets, split
from groundup.text.left_out import LeftOut
from groundup.text.near_duplicates import Rule, group_near_duplicates, has_near_duplicate


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labeled texts in three sets."""

    texts: list[str]
    labels: list[str]
    names: tuple[str, ...]
    """The class names in the order of the targets."""
    split: Split
    source: str
    """The name of the file, or the meaning of the labels."""
    n_repeats: int
    """Number of texts that are equal to an earlier one."""
    n_groups: int
    """Number of groups of near duplicates, single texts included."""
    n_conflicts: int
    """Number of texts in groups of near duplicates that have different labels."""
    has_near: list[bool]
    """For each text of the test set, whether a text of the other sets is a near duplicate."""
    threshold: float
    """Least Jaccard similarity of near duplicates."""
    notes: tuple[str, ...] = ()
    """How columns were chosen, in sentences."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What was not used of the documents, with its count."""
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out while the files were read."""

    def texts_of(self, rows: Sequence[int]) -> list[str]:
        """The texts of some rows."""
        return [self.texts[row] for row in rows]

    def targets_of(self, rows: Sequence[int]) -> list[int]:
        """The classes of some rows, as numbers."""
        targets = {name: k for k, name in enumerate(self.names)}
        return [targets[self.labels[row]] for row in rows]

    @property
    def rarest(self) -> int:
        """The class with the fewest training texts; of equal ones the last."""
        counts = Counter(self.labels[row] for row in self.split.train)
        return min(range(len(self.names)), key=lambda k: (counts[self.names[k]], -k))

    @property
    def audit(self) -> str:
        """What was found about repeated texts, in one sentence."""
        n, n_near = len(self.texts), sum(self.has_near)
        parts = [f"{self.n_repeats:,} of {n:,} texts repeat an earlier one"]
        if self.n_conflicts:
            parts.append(f"{self.n_conflicts:,} have a near duplicate with another label")
        parts.append(
            f"{n_near:,} of {len(self.has_near):,} test texts have a near duplicate in the "
            f"training or validation set (Jaccard {self.threshold:g})"
        )
        return f"Audit: {'; '.join(parts)}."


def read_examples(config: ClassifyConfig) -> Examples:
    """Read the files of labels, and divide their texts into training, validation and test set.

    Raises:
        UsageError: A file cannot be read (see `read_labels`), there is only one class, a class is
            too small to be divided, or a label does not occur in the training set.
    """
    with as_usage_error():
        return _read_examples(config)


def _read_examples(config: ClassifyConfig) -> Examples:
    assert config.labels is not None
    reading = LeftOut()
    notes: list[str] = []

    def read(word: str | Path, part: str) -> list[LabeledText]:
        found = read_labels(
            word,
            config,
            text_column=config.text_column,
            label_column=config.label_column,
            split_column=config.split_column,
            left_out=reading,
        )
        notes.extend(note for note in found.notes if note not in notes)
        if not part:
            return found.rows
        return [LabeledText(row.text, row.label, row.where, part) for row in found.rows]

    rows = read(config.labels, "train" if config.test or config.validation else "")
    check_classes([row.label for row in rows], where=config.labels)
    for part in ("validation", "test"):
        word = getattr(config, part)
        if word is not None:
            rows += read(word, part)
    texts, labels = [row.text for row in rows], [row.label for row in rows]
    groups = group_near_duplicates(texts, Rule(config.near_duplicate))
    chosen = _divide(config, rows, groups.group)
    for name in ("validation", "test"):
        others = [rows[row] for row in getattr(chosen, name)]
        check_seen([rows[row] for row in chosen.train], others, name=name)
    return _examples(
        config, texts, labels, chosen, groups.group,
        n_repeats=groups.n_exact_repeats, source=Path(config.labels).name,
        notes=tuple(notes), reading=reading,
    )  # fmt: skip


def passage_examples(config: ClassifyConfig, passages: PassageSplit) -> Examples:
    """Use passages of documents; the validation set is drawn from their training set."""
    n = len(passages.train)
    rows = passages.train + passages.test
    texts, labels = [row.text for row in rows], [row.label for row in rows]
    groups = group_near_duplicates(texts, Rule(config.near_duplicate))
    chosen = _with_validation(
        config, labels, groups.group, list(range(n)), list(range(n, len(rows)))
    )
    return _examples(
        config, texts, labels, chosen, groups.group,
        n_repeats=passages.n_duplicates, source=passages.source, names=passages.names,
        left_out=dict(passages.left_out),
    )  # fmt: skip


def _divide(config: ClassifyConfig, rows: list[LabeledText], groups: list[int]) -> Split:
    labels = [row.label for row in rows]
    parts: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        parts[row.part].append(number)
    if not parts.keys() - {""}:
        if config.split == "book":
            return book_split(labels, seed=config.seed)
        try:
            found = split(
                labels,
                groups,
                test_frac=config.test_frac,
                validation_frac=config.validation_frac,
                seed=config.seed,
                how=config.split,
            )
            return require_sets(found, validation=config.validation_frac > 0)
        except UserError as error:
            hint = {"split": "random"} if config.split == "grouped" else None
            raise UserError(error.message, where=config.labels, settings=hint) from error
    where = config.labels if config.split_column else config.test or config.validation
    if not parts["train"]:
        raise UserError(
            "No row is in the training set. Rows of the set train are expected.", where=where
        )
    if not parts["test"]:  # only a validation file is given
        drawn = split(
            [labels[row] for row in parts["train"]],
            [groups[row] for row in parts["train"]],
            test_frac=config.test_frac,
            validation_frac=0.0,
            seed=config.seed,
        )
        require_sets(drawn, validation=False)
        parts["test"] = [parts["train"][i] for i in drawn.test]
        parts["train"] = [parts["train"][i] for i in drawn.train]
    if parts["validation"]:
        return Split(parts["train"], parts["validation"], parts["test"], "given")
    return _with_validation(config, labels, groups, parts["train"], parts["test"])


def _with_validation(
    config: ClassifyConfig,
    labels: Sequence[str],
    groups: Sequence[int],
    train: list[int],
    test: list[int],
) -> Split:
    """Draw the validation set from the training set."""
    n_wanted = round(config.validation_frac * (len(train) + len(test)))
    if n_wanted < 1 or len({groups[row] for row in train}) < 3:
        return Split(train, [], test, "given")
    drawn = split(
        [labels[row] for row in train],
        [groups[row] for row in train],
        test_frac=min(0.5, n_wanted / len(train)),
        validation_frac=0.0,
        seed=config.seed,
    )
    return Split([train[i] for i in drawn.train], [train[i] for i in drawn.test], test, "given")


def _examples(
    config: ClassifyConfig,
    texts: list[str],
    labels: list[str],
    chosen: Split,
    groups: list[int],
    *,
    n_repeats: int,
    source: str,
    names: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    left_out: dict[str, int] | None = None,
    reading: LeftOut | None = None,
) -> Examples:
    labels_of_group: dict[int, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        labels_of_group[group].add(label)
    train = chosen.train
    if config.balance == "undersampled":
        train = undersample(train, labels, config.seed)
    known = train + chosen.validation
    return Examples(
        texts=texts,
        labels=labels,
        names=names or tuple(sorted(set(labels))),
        split=Split(train, chosen.validation, chosen.test, chosen.how),
        source=source,
        n_repeats=n_repeats,
        n_groups=len(set(groups)),
        n_conflicts=sum(len(labels_of_group[group]) > 1 for group in groups),
        has_near=has_near_duplicate(
            [texts[row] for row in chosen.test],
            [texts[row] for row in known],
            Rule(config.near_duplicate),
        ),
        threshold=config.near_duplicate,
        notes=notes,
        left_out=left_out or {},
        reading=reading or LeftOut(),
    )
