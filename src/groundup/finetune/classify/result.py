"""What the training of a classifier returns and writes: accuracies, counts, and the README."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.evaluation.intervals import Share
from groundup.text.left_out import LeftOut
from groundup.train.loop import Step


@dataclass(frozen=True)
class Prediction:
    """A test text with its label and the prediction of the classifier."""

    text: str
    label: str
    predicted: str
    probability: float
    """Probability of the predicted class."""

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is the label."""
        return self.label == self.predicted


@dataclass(frozen=True, kw_only=True)
class ClassifyResult:
    """The folder of a trained classifier, its accuracy, and the accuracy of the baselines."""

    folder: Path
    """`load_classifier` opens it."""
    source: str
    """Meaning of the labels, or the name of the file they come from."""
    names: tuple[str, ...]
    n_train: int
    n_test: int
    n_duplicates: int
    """Number of examples left out because the same text occurs twice."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What else was not used of the documents, with its count."""
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out while the files were read."""
    predictions: list[Prediction] = field(default_factory=list)
    accuracy: Share | None = None
    """Test accuracy. None: the test failed; likewise for the baselines."""
    majority: Share | None = None
    bag_of_words: Share | None = None
    confusion: list[list[int]] = field(default_factory=list)
    """Confusion matrix: rows are true classes, columns predicted ones, in the order of `names`."""
    n_cut: int
    """Number of texts that are longer than `max_tokens` and were cut."""
    max_tokens: int
    """Number of tokens of a text that the classifier reads."""
    steps: list[Step]
    elapsed_s: float
    warnings: list[str] = field(default_factory=list)
    """What failed after training. The classifier is saved nevertheless."""

    @property
    def shares(self) -> dict[str, Share]:
        """The accuracies that were measured, by the name of the model."""
        shares = {
            "fine-tuned model": self.accuracy,
            "bag-of-words baseline": self.bag_of_words,
            "majority-class baseline": self.majority,
        }
        return {name: share for name, share in shares.items() if share is not None}

    @property
    def verdict(self) -> str:
        """The comparison with the bag of words in one sentence."""
        if self.accuracy is None or self.bag_of_words is None:
            return "The classifier was not compared with the bag of words."
        return compare(self.accuracy, self.bag_of_words)

    @property
    def not_used(self) -> list[str]:
        """What of the texts was left out or cut, one sentence for each."""
        n_texts = self.n_train + self.n_test
        counts = {
            f"{self.n_cut:,} of {n_texts:,} texts are longer than {self.max_tokens} tokens and are "
            "cut to that length.": self.n_cut,
            f"{self.n_duplicates:,} texts are left out because they repeat another one.": (
                self.n_duplicates
            ),
            **{f"{count:,} {what} are left out.": count for what, count in self.left_out.items()},
        }
        return [*self.reading.sentences(), *(text for text, count in counts.items() if count)]

    def summary(self) -> dict[str, Any]:
        """The numbers of the test, as evaluation/accuracy.json holds them."""
        shares = {
            "tuned_model": self.accuracy,
            "bag_of_words": self.bag_of_words,
            "majority_class": self.majority,
        }
        return {
            **{
                name: {"n_right": s.n_right, "n": s.n, "low_frac": s.low, "high_frac": s.high}
                for name, s in shares.items()
                if s is not None
            },
            "classes": list(self.names),
            "confusion": self.confusion,
        }


def compare(ours: Share, bag: Share) -> str:
    """Compare the model with the bag of words, considering the confidence intervals.

    >>> from groundup.evaluation.intervals import wilson
    >>> compare(wilson(50, 100), wilson(90, 100))
    'The bag of words is better than the fine-tuned model; the intervals do not overlap.'
    """
    if bag.low > ours.high:
        return "The bag of words is better than the fine-tuned model; the intervals do not overlap."
    if ours.low > bag.high:
        return "The fine-tuned model is better than the bag of words; the intervals do not overlap."
    if ours.n_right == bag.n_right:
        ahead = "Both have the same accuracy"
    elif ours.n_right > bag.n_right:
        ahead = "The fine-tuned model has the higher accuracy"
    else:
        ahead = "The bag of words has the higher accuracy, at a fraction of the cost"
    return f"{ahead}. The intervals overlap, so a test set of {ours.n} texts is not conclusive."


def confusion_matrix(
    names: Sequence[str], labels: Sequence[str], predicted: Sequence[str]
) -> list[list[int]]:
    """Count texts by true class (row) and predicted class (column).

    >>> confusion_matrix(["a", "b"], ["a", "a", "b"], ["a", "b", "b"])
    [[1, 1], [0, 1]]
    """
    counts = [[0] * len(names) for _ in names]
    for label, guess in zip(labels, predicted, strict=True):
        counts[names.index(label)][names.index(guess)] += 1
    return counts


def readme(result: ClassifyResult) -> str:
    """Write the README.md of a classifier, in Markdown."""
    rows = "\n".join(f"| {name} | {share} |" for name, share in result.shares.items())
    return f"""# Classifier: {result.source}

Training set: {result.n_train} texts. Test set: {result.n_test} texts.
Classes: {", ".join(result.names)}.
{" ".join(result.not_used)}

| model | test accuracy |
|---|---|
{rows}

{result.verdict}

Load it in Python:

```python
from groundup.finetune.classify.classifier import load_classifier

classifier = load_classifier({str(result.folder)!r})
print(classifier.predict(["A text to classify."]))
```

Fine-tuning writes no checkpoints: when `groundup classify` is interrupted, it starts again from the
beginning.
"""
