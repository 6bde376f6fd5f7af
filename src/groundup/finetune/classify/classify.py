"""Fine-tune a classifier from a language model, and measure it beside what is simpler.

The examples are a file of labelled texts, or passages of the run's own text whose label is the
document they come from. All weights are tuned by the one training loop. The accuracy is printed
with its Wilson interval beside the majority class and a bag of words on the very same test texts,
and the comparison says so when the bag of words is as good or better.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import write_json
from groundup.base.run import RunFolder
from groundup.evaluation.intervals import Share, wilson
from groundup.finetune.batches import RowLoader, label_row
from groundup.finetune.classify.baselines import (
    bag_of_words_predictions,
    majority_predictions,
    n_correct,
)
from groundup.finetune.classify.classifier import (
    Classifier,
    LoadedClassifier,
    encode_texts,
    load_classifier,
    save_classifier,
)
from groundup.finetune.classify.labels import LabelSplit, read_labels, split_labels
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.foundation import OnStep, documents_of, open_foundation, tune
from groundup.train.loop import Step
from groundup.train.optimizer import Optimizer, OptimizerConfig

__all__ = ["ClassifyConfig", "ClassifyResult", "classify", "load_classifier"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """Fine-tune a classifier from the model of a run."""

    run: Path = Path("runs/pretrain")
    """the run whose model is tuned; the classifier goes to RUN/classifier"""
    labels: Path | None = None
    """labelled texts (.tsv, .csv, .jsonl); without it: which document is this passage from?"""
    text_column: str = "text"
    """name of the column that holds the texts"""
    label_column: str = "label"
    """name of the column that holds the class names"""
    data: Path | None = None
    """data folder to cut passages from (without it: the one the run was trained on)"""
    n_classes: int = 5
    """how many documents become classes, when the labels come from the text"""
    passage_characters: int = 200
    """length of a passage, when the labels come from the text"""
    test_frac: float = 0.25
    """share of the examples kept for the test"""
    steps: int = 150
    """steps of the training loop"""
    batch_size: int = 16
    """texts per step"""
    learning_rate: float = 0.001
    """AdamW's highest rate, for all weights alike"""
    weight_decay: float = 0.01
    """how strongly matrices are pulled to zero"""
    max_tokens: int = 128
    """longer texts are cut here (and at the model's context)"""
    pooling: Literal["mean", "last"] = "mean"
    """what the head reads: the mean over the real tokens, or the last real token"""
    seed: int = 0
    """fixes the split and the order of the batches"""
    device: str = "auto"
    """auto, cpu or cuda"""
    threads: int | None = None
    """CPU threads (without it: all cores)"""


@dataclass(frozen=True)
class Prediction:
    """One test text, what it is, and what the classifier made of it."""

    text: str
    label: str
    predicted: str
    probability: float
    """How sure the classifier was of its answer, between 0 and 1."""

    @property
    def right(self) -> bool:
        """Was it right?"""
        return self.label == self.predicted


@dataclass(frozen=True, kw_only=True)
class ClassifyResult:
    """What came out: where the classifier is, its accuracy, and those it is measured against."""

    folder: Path
    """RUN/classifier; `load_classifier` opens it."""
    source: str
    """What the labels say, or the file they come from."""
    names: tuple[str, ...]
    n_train: int
    n_test: int
    n_duplicates: int
    """Examples left out because the same text occurs twice."""
    predictions: list[Prediction]
    accuracy: Share
    majority: Share
    bag_of_words: Share
    confusion: list[list[int]]
    """Row: true class, column: predicted class, in the order of `names`."""
    n_cut: int
    """Texts longer than `max_tokens`, of which only the beginning was read."""
    steps: list[Step]
    elapsed_s: float

    @property
    def verdict(self) -> str:
        """One honest sentence on the comparison with the bag of words."""
        return compare(self.accuracy, self.bag_of_words)


def compare(ours: Share, bag: Share) -> str:
    """Say who is ahead, and whether the intervals leave any doubt.

    >>> from groundup.evaluation.intervals import wilson
    >>> compare(wilson(50, 100), wilson(90, 100))
    'The bag of words is better, and the intervals do not overlap: take it.'
    """
    if bag.low > ours.high:
        return "The bag of words is better, and the intervals do not overlap: take it."
    if ours.low > bag.high:
        return "The tuned model is better than the bag of words; the intervals do not overlap."
    if ours.n_right == bag.n_right:
        ahead = "Both are right equally often"
    elif ours.n_right > bag.n_right:
        ahead = "The tuned model is ahead"
    else:
        ahead = "The bag of words is ahead, at a fraction of the cost"
    return f"{ahead}; the intervals overlap, so {ours.n} test texts do not settle it."


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


def classify(config: ClassifyConfig, on_step: OnStep | None = None) -> ClassifyResult:
    """Tune, test, compare and store a classifier.

    Raises:
        UserError: the labels are wrong (see `read_labels`), the text is too short to make any, or
        the run
            holds no model.
    """
    began_at = time.perf_counter()
    _check(config)
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    split = _examples(config)
    model, tokenizer = foundation.model, foundation.tokenizer
    limit = min(config.max_tokens, model.config.context_length)
    n_cut = sum(len(tokenizer.encode(e.text)) > limit for e in split.train + split.test)
    rows = [
        label_row(ids, split.index(example.label))
        for ids, example in zip(
            encode_texts([e.text for e in split.train], tokenizer, limit), split.train, strict=True
        )
    ]
    classifier = Classifier(model, split.names, pooling=config.pooling, max_tokens=limit)
    classifier.to(next(model.parameters()).device)
    optimizer = Optimizer(
        classifier,
        OptimizerConfig(
            name="adamw", learning_rate=config.learning_rate, weight_decay=config.weight_decay
        ),
    )
    batches = iter(RowLoader(rows, config.batch_size, seed=config.seed))
    steps = tune(
        classifier, batches, classifier.loss, optimizer, n_steps=config.steps, on_step=on_step
    )
    loaded = LoadedClassifier(classifier, tokenizer)
    probabilities = loaded.probabilities([example.text for example in split.test])
    predictions = [
        Prediction(e.text, e.label, split.names[int(p.argmax())], float(p.max()))
        for e, p in zip(split.test, probabilities, strict=True)
    ]
    guesses = [p.predicted for p in predictions]
    n = len(split.test)
    result = ClassifyResult(
        folder=RunFolder.create(config.run / "classifier").path,
        source=split.source,
        names=split.names,
        n_train=len(split.train),
        n_test=n,
        n_duplicates=split.n_duplicates,
        predictions=predictions,
        accuracy=wilson(n_correct(guesses, split.test), n),
        majority=wilson(n_correct(majority_predictions(split), split.test), n),
        bag_of_words=wilson(n_correct(bag_of_words_predictions(split), split.test), n),
        confusion=confusion_matrix(split.names, [e.label for e in split.test], guesses),
        n_cut=n_cut,
        steps=steps,
        elapsed_s=time.perf_counter() - began_at,
    )
    _store(config, result)
    save_classifier(loaded, result.folder)
    return result


def _check(config: ClassifyConfig) -> None:
    for name, value in (("steps", config.steps), ("batch_size", config.batch_size)):
        if value < 1:
            raise UserError(f"{name} is {value}", need="1 or more")
    if not 0.0 < config.test_frac < 1.0:
        raise UserError(f"test_frac is {config.test_frac}", need="a share between 0 and 1")
    if config.n_classes < 2 or config.passage_characters < 1 or config.max_tokens < 1:
        raise UserError(
            f"n_classes {config.n_classes}, passage_characters {config.passage_characters}, "
            f"max_tokens {config.max_tokens}",
            need="at least two classes, and lengths of 1 or more",
        )


def _examples(config: ClassifyConfig) -> LabelSplit:
    if config.labels is not None:
        examples = read_labels(
            config.labels, text_column=config.text_column, label_column=config.label_column
        )
        return split_labels(
            examples, test_frac=config.test_frac, seed=config.seed, source=config.labels.name
        )
    return passages_by_source(
        documents_of(config.run, config.data, "train"),
        n_classes=config.n_classes,
        n_characters=config.passage_characters,
        test_frac=config.test_frac,
    )


def _store(config: ClassifyConfig, result: ClassifyResult) -> None:
    run = RunFolder.open(result.folder)
    run.write_config(config)
    for step in result.steps:
        run.log_metrics(
            step=step.step,
            loss_nats=step.loss_nats,
            learning_rate=step.learning_rate,
            elapsed_s=step.elapsed_s,
        )
    shares = {
        "tuned_model": result.accuracy,
        "bag_of_words": result.bag_of_words,
        "majority_class": result.majority,
    }
    evaluation = {
        name: {"n_right": s.n_right, "n": s.n, "low_frac": s.low, "high_frac": s.high}
        for name, s in shares.items()
    }
    write_json(
        run.path / "evaluation" / "accuracy.json",
        {**evaluation, "classes": list(result.names), "confusion": result.confusion},
    )
    rows = "\n".join(f"| {name.replace('_', ' ')} | {share} |" for name, share in shares.items())
    run.write_readme(
        f"# Classifier: {result.source}\n\n{result.n_train} texts to learn from, "
        f"{result.n_test} to test on; classes: {', '.join(result.names)}.\n\n"
        f"| | accuracy |\n|---|---|\n{rows}\n\n{result.verdict}\n\n"
        f"Load it: `groundup.finetune.classify.classify.load_classifier({str(result.folder)!r})`\n"
    )
    run.write_manifest({"foundation": str(config.run), "labels": result.source})
