"""Fine-tune a classifier from a language model, and compare it with two baselines.

The examples are a file of labeled texts, or passages of the run's documents labeled by document.
All weights are trained. The accuracy of the model, of the majority class and of a bag of words is
measured on the same test set, with Wilson intervals.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.files import write_json
from groundup.base.folder_kinds import find_run
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
    save_classifier,
)
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.labels import LabelSplit, read_labels, split_labels
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.foundation import documents_of, open_foundation
from groundup.finetune.training import OnStep, log_steps, tune
from groundup.train.loop import Step
from groundup.train.optimizer import Optimizer, OptimizerConfig


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
    """RUN/classifier; `load_classifier` opens it."""
    source: str
    """Meaning of the labels, or the name of the file they come from."""
    names: tuple[str, ...]
    n_train: int
    n_test: int
    n_duplicates: int
    """Number of examples left out because the same text occurs twice."""
    predictions: list[Prediction]
    accuracy: Share
    majority: Share
    bag_of_words: Share
    confusion: list[list[int]]
    """Confusion matrix: rows are true classes, columns predicted ones, in the order of `names`."""
    n_cut: int
    """Number of texts that were truncated."""
    steps: list[Step]
    elapsed_s: float

    @property
    def verdict(self) -> str:
        """The comparison with the bag of words in one sentence."""
        return compare(self.accuracy, self.bag_of_words)


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


@takes_settings(ClassifyConfig, "run")
def classify(config: ClassifyConfig, on_step: OnStep | None = None) -> ClassifyResult:
    """Train a classifier, test it, compare it with the baselines, and write it to RUN/classifier.

    No checkpoints are written: a run that is interrupted starts again from the beginning.

    Raises:
        UserError: The labels are invalid (see `read_labels`), the text is too short to make labels
            from it, or the run contains no model.
    """
    started_at = time.perf_counter()
    config = replace(config, run=find_run(config.run))
    assert config.run is not None
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
    predicted = [p.predicted for p in predictions]
    n = len(split.test)
    result = ClassifyResult(
        folder=RunFolder.create(RunFolder.of(config.run).path / "classifier").path,
        source=split.source,
        names=split.names,
        n_train=len(split.train),
        n_test=n,
        n_duplicates=split.n_duplicates,
        predictions=predictions,
        accuracy=wilson(n_correct(predicted, split.test), n),
        majority=wilson(n_correct(majority_predictions(split), split.test), n),
        bag_of_words=wilson(n_correct(bag_of_words_predictions(split), split.test), n),
        confusion=confusion_matrix(split.names, [e.label for e in split.test], predicted),
        n_cut=n_cut,
        steps=steps,
        elapsed_s=time.perf_counter() - started_at,
    )
    _store(config, result)
    save_classifier(loaded, result.folder)
    return result


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
    run = RunFolder(result.folder)
    run.write_config(config)
    log_steps(run, result.steps)
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
    run.write_readme(readme(result))
    run.write_manifest({"foundation": str(config.run), "labels": result.source})


def readme(result: ClassifyResult) -> str:
    """Write the README.md of a classifier, in Markdown."""
    return f"""# Classifier: {result.source}

Training set: {result.n_train} texts. Test set: {result.n_test} texts.
Classes: {", ".join(result.names)}.

| model | test accuracy |
|---|---|
| fine-tuned model | {result.accuracy} |
| bag-of-words baseline | {result.bag_of_words} |
| majority-class baseline | {result.majority} |

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
