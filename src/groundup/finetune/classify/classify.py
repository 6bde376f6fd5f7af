"""Fine-tune a classifier from a language model, and compare it with two baselines.

The examples are a file of labeled texts, or passages of the run's documents labeled by document.
All weights are trained. The accuracy of the model, of the majority class and of a bag of words is
measured on the same test set, with Wilson intervals.
"""

import time
from dataclasses import replace
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.files import write_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.intervals import wilson
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import Row, RowLoader, label_row
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
from groundup.finetune.classify.passages import PassageSplit, passages_by_source
from groundup.finetune.classify.result import (
    ClassifyResult,
    Prediction,
    confusion_matrix,
    readme,
)
from groundup.finetune.foundation import documents_of, open_foundation, target_folder
from groundup.finetune.outcome import AfterTraining, save_to_new_folder
from groundup.finetune.training import OnStep, log_steps, tune
from groundup.text.left_out import LeftOut
from groundup.train.loop import Step
from groundup.train.optimizer import Optimizer, OptimizerConfig


@takes_settings(ClassifyConfig, "run")
def classify(config: ClassifyConfig, on_step: OnStep | None = None) -> ClassifyResult:
    """Train a classifier, test it, compare it with the baselines, and write it to RUN/classifier.

    The classifier is saved right after training. If a later step fails, such as the test, the
    result has a warning. No checkpoints are written: a run that is interrupted starts again from
    the beginning.

    Raises:
        UserError: The labels are invalid (see `read_labels`), the text is too short to make labels
            from it, the run contains no model, or the classifier cannot be written.
    """
    started_at = time.perf_counter()
    config = replace(config, run=find_run(config.run))
    assert config.run is not None
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    wanted = target_folder(config.run, config.out, "classifier", foundation.model)
    reading = LeftOut()
    split = _examples(config, reading)
    max_tokens = min(config.max_tokens, foundation.model.config.context_length)
    rows, n_cut = _rows(split, foundation, max_tokens)
    classifier = Classifier(
        foundation.model, split.names, pooling=config.pooling, max_tokens=max_tokens
    )
    classifier.to(foundation.model.device)
    steps = _train(config, classifier, rows, on_step)
    loaded = LoadedClassifier(classifier, foundation.tokenizer)
    folder = save_to_new_folder(wanted, lambda path: save_classifier(loaded, path))
    after = AfterTraining(folder)
    run = RunFolder(folder)
    result = ClassifyResult(
        folder=folder,
        source=split.source,
        names=split.names,
        n_train=len(split.train),
        n_test=len(split.test),
        n_duplicates=split.n_duplicates,
        left_out=dict(split.left_out) if isinstance(split, PassageSplit) else {},
        reading=reading,
        n_cut=n_cut,
        max_tokens=max_tokens,
        steps=steps,
        elapsed_s=0.0,
        warnings=after.warnings,
    )
    with after.step("Writing the settings"):
        run.write_config(config)
    with after.step("Writing the manifest"):
        run.write_manifest({**_manifest(config, result), **foundation.special_ids.to_manifest()})
    with after.step("Writing the metrics"):
        log_steps(run, steps)
    with after.step("Testing the classifier"):
        result = _tested(loaded, split, result)
    with after.step("Testing the majority-class baseline"):
        n_right = n_correct(majority_predictions(split), split.test)
        result = replace(result, majority=wilson(n_right, len(split.test)))
    with after.step("Testing the bag-of-words baseline"):
        n_right = n_correct(bag_of_words_predictions(split), split.test)
        result = replace(result, bag_of_words=wilson(n_right, len(split.test)))
    with after.step("Writing the accuracy"):
        write_json(run.evaluation / "accuracy.json", result.summary())
    with after.step("Writing the README"):
        run.write_readme(readme(result))
    return replace(result, elapsed_s=time.perf_counter() - started_at)


def _rows(split: LabelSplit, foundation: LanguageModel, max_tokens: int) -> tuple[list[Row], int]:
    """Encode the training texts; also count the texts of both sets that are cut."""
    texts = [example.text for example in split.train + split.test]
    encoded = encode_texts(texts, foundation.tokenizer)
    rows = [
        label_row(ids[:max_tokens], split.index(example.label))
        for ids, example in zip(encoded, split.train, strict=False)
    ]
    return rows, sum(len(ids) > max_tokens for ids in encoded)


def _train(
    config: ClassifyConfig, classifier: Classifier, rows: list[Row], on_step: OnStep | None
) -> list[Step]:
    optimizer = Optimizer(
        classifier,
        OptimizerConfig(
            name="adamw", learning_rate=config.learning_rate, weight_decay=config.weight_decay
        ),
    )
    batches = iter(RowLoader(rows, config.batch_size, seed=config.seed))
    return tune(
        classifier, batches, classifier.loss, optimizer, n_steps=config.steps, on_step=on_step
    )


def _tested(loaded: LoadedClassifier, split: LabelSplit, result: ClassifyResult) -> ClassifyResult:
    probabilities = loaded.probabilities([example.text for example in split.test])
    predictions = [
        Prediction(e.text, e.label, split.names[int(p.argmax())], float(p.max()))
        for e, p in zip(split.test, probabilities, strict=True)
    ]
    predicted = [p.predicted for p in predictions]
    return replace(
        result,
        predictions=predictions,
        accuracy=wilson(n_correct(predicted, split.test), len(split.test)),
        confusion=confusion_matrix(split.names, [e.label for e in split.test], predicted),
    )


def _manifest(config: ClassifyConfig, result: ClassifyResult) -> dict[str, object]:
    return {
        "foundation": str(config.run),
        "labels": result.source,
        "n_texts": {"train": result.n_train, "test": result.n_test},
        "n_cut": result.n_cut,
        "max_tokens": result.max_tokens,
        "left_out": {"duplicates": result.n_duplicates, **result.left_out},
        "reading": result.reading.to_table(),
    }


def _examples(config: ClassifyConfig, reading: LeftOut) -> LabelSplit:
    if config.labels is not None:
        examples = read_labels(
            config.labels,
            config,
            text_column=config.text_column,
            label_column=config.label_column,
            left_out=reading,
        )
        return split_labels(
            examples, test_frac=config.test_frac, seed=config.seed, source=Path(config.labels).name
        )
    return passages_by_source(
        documents_of(config.run, config.data, "train", instead="labels"),
        n_classes=config.n_classes,
        n_characters=config.passage_characters,
        test_frac=config.test_frac,
    )
