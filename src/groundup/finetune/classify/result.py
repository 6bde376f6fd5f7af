"""What the training of a classifier returns: the scores of all models, and the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from groundup.evaluation.paired import MIN_ITEMS, Difference
from groundup.finetune.classify.calibration import Calibration
from groundup.finetune.classify.metrics import Scores
from groundup.finetune.training import Trained

FROZEN = "frozen model"
AVERAGE = "frozen + TF-IDF"
TUNED = {"last": "last-block model", "lora": "LoRA model", "all": "tuned model"}
"""Names of the tuned models in the tables."""


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
class Mistake:
    """An error of the classifier, and the most similar training text."""

    text: str
    label: str
    predicted: str
    probability: float
    """Probability of the predicted class."""
    nearest_text: str
    nearest_label: str
    nearest_jaccard: float


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """The scores of one model on the test set."""

    name: str
    all: Scores
    """On all rows."""
    no_near: Scores | None
    """On the rows without a near duplicate in the training or validation set. None: there are
    none."""
    cpu_s: float
    """CPU time of training and testing, in seconds of one core."""
    calibration: Calibration | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same test rows; differences are those of `model` minus `other`."""

    model: str
    other: str
    log_loss_nats: Difference
    """Below 0: `model` is better."""
    accuracy: Difference
    no_near_log_loss_nats: Difference | None
    """On the rows without a near duplicate. None: there are too few."""

    @property
    def sentence(self) -> str:
        """Say which model is better, by the log loss."""
        gap, n = self.log_loss_nats, self.log_loss_nats.n
        if n < MIN_ITEMS:
            return f"The test set has {n} texts, too few to compare models ({MIN_ITEMS} or more)."
        if not gap.is_clear:
            return (
                f"The {self.model} and the {self.other} are not clearly different: log loss "
                f"{gap.mean:+.4f} nats [{gap.low:+.4f}, {gap.high:+.4f}] on {n:,} texts."
            )
        better, worse, low, high = self.model, self.other, -gap.high, -gap.low
        if gap.mean > 0:
            better, worse, low, high = worse, better, gap.low, gap.high
        return (
            f"The {better} is better than the {worse}: log loss lower by {abs(gap.mean):.4f} nats "
            f"[{low:.4f}, {high:.4f}] on {n:,} texts."
        )


@dataclass(frozen=True, kw_only=True)
class ClassifyResult:
    """The folder of a trained classifier, its scores, and those of the baselines."""

    folder: Path
    """`load_classifier` opens it."""
    method: str
    """frozen, last, lora or all."""
    source: str
    """Meaning of the labels, or the name of the file they come from."""
    names: tuple[str, ...]
    n_train: int
    n_validation: int
    n_test: int
    audit: str
    """What was found about repeated texts."""
    read: list[str] = field(default_factory=list)
    """How the columns were chosen, and what was left out of the files, one sentence for each."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What was not used of the documents, with its count."""
    models: list[ModelScores] = field(default_factory=list)
    """The baselines, the frozen model, their average, and the tuned model, if there is one."""
    comparisons: list[Comparison] = field(default_factory=list)
    """Of the frozen model with the best baseline, and of the tuned model with both."""
    predictions: list[Prediction] = field(default_factory=list)
    """Of the saved classifier on the test set."""
    confusion: list[list[int]] = field(default_factory=list)
    """Confusion matrix: rows are true classes, columns predicted ones, in the order of `names`."""
    mistakes: list[Mistake] = field(default_factory=list)
    """The most confident errors of the saved classifier."""
    n_cut: int
    """Number of texts that are longer than `max_tokens` and were cut."""
    max_tokens: int
    """Number of tokens of a text that the classifier reads."""
    n_bytes: int = 0
    """Size of the files of the classifier that are not links to the weights of the run."""
    trained: Trained | None = None
    """What the training of a tuned model did."""
    elapsed_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    """What failed after training. The classifier is saved nevertheless."""

    @property
    def not_read(self) -> list[str]:
        """What was left out of the documents or cut, one sentence for each."""
        n_texts = self.n_train + self.n_validation + self.n_test
        counts = {
            f"{self.n_cut:,} of {n_texts:,} texts are longer than {self.max_tokens} tokens and are "
            "cut to that length.": self.n_cut,
            **{f"{count:,} {what} are left out.": count for what, count in self.left_out.items()},
        }
        return [text for text, count in counts.items() if count]

    @property
    def notes(self) -> list[str]:
        """All that was guessed, left out or cut, one sentence for each."""
        return [*self.read, *self.not_read]

    @property
    def model(self) -> ModelScores | None:
        """The scores of the saved classifier; None if the test failed."""
        wanted = TUNED.get(self.method, FROZEN)
        return next((model for model in self.models if model.name == wanted), None)

    def summary(self) -> dict[str, Any]:
        """The numbers of the test, as evaluation/scores.json holds them."""
        return {
            "models": [asdict(model) for model in self.models],
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "classes": list(self.names),
            "confusion": self.confusion,
        }

    @property
    def verdict(self) -> str:
        """What the comparisons say, in a sentence or two."""
        if not self.comparisons:
            return "The classifier was not compared with the baselines."
        if self.comparisons[0].log_loss_nats.n < MIN_ITEMS:
            return self.comparisons[0].sentence
        last = self.comparisons[-1]
        sentences = [last.sentence]
        is_ahead = last.log_loss_nats.is_clear and last.log_loss_nats.mean < 0
        if self.method != "frozen" and not is_ahead:
            sentences.append("Tuning was not worth its cost here: use the frozen model.")
        elif self.method == "frozen" and not is_ahead:
            sentences.append("TF-IDF is the cheaper choice here.")
        return " ".join(sentences)


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
