"""Train a classifier on the model of a run, and compare it with baselines on the same rows.

The frozen recipe always runs: the model is run once over all texts, and logistic regression is fit
to its hidden states. A tuned recipe starts from the same model and must beat it. Everything is
measured on the same test set, on all rows and on those without a near duplicate in the training
or validation set.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from groundup.base.calling import takes_settings
from groundup.base.device import choose_dtype
from groundup.base.environment import now
from groundup.base.files import write_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel
from groundup.finetune.classify.baselines import (
    CHARACTERS,
    MAJORITY,
    WORDS,
    TfidfClassifier,
    class_frequencies,
)
from groundup.finetune.classify.classifier import LoadedClassifier, save_classifier, save_head
from groundup.finetune.classify.comparison import Measured, average, compare, measured, scores_of
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples, passage_examples, read_examples
from groundup.finetune.classify.fixed_shapes import OnTokens
from groundup.finetune.classify.frozen import fit_head, head_probabilities
from groundup.finetune.classify.heads import Classifier
from groundup.finetune.classify.materials import SMALL_MODEL, Materials, feature_rows, gather
from groundup.finetune.classify.mistakes import confident_mistakes, predictions_of
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.classify.report import readme, write_report
from groundup.finetune.classify.result import (
    AVERAGE,
    FROZEN,
    TUNED,
    ClassifyResult,
    ModelScores,
    confusion_matrix,
)
from groundup.finetune.classify.tuned import TuningData, tune_classifier
from groundup.finetune.foundation import documents_of, open_foundation, target_folder
from groundup.finetune.outcome import AfterTraining, save_to_new_folder
from groundup.finetune.training import OnStep, Trained, open_fine_tuning

OnExamples = Callable[[Examples], None]
"""Called with the texts, before the model is run."""
OnScores = Callable[[list[ModelScores]], None]
"""Called with the scores of the baselines and the frozen model."""


@takes_settings(ClassifyConfig, "run")
def classify(
    config: ClassifyConfig,
    on_step: OnStep | None = None,
    on_examples: OnExamples | None = None,
    on_tokens: OnTokens | None = None,
    on_scores: OnScores | None = None,
) -> ClassifyResult:
    """Train a classifier, test it beside the baselines, and write it to RUN/classifier.

    The classifier is saved right after training. If a later step fails, such as the test, the
    result has a warning. A command that is interrupted continues when it is run again: hidden
    states that were computed are kept in RUN/features, and the training of a tuned model resumes.

    Args:
        config: The settings.
        on_step: Called after each optimizer step of a tuned model.
        on_examples: Called with the texts before the model is run.
        on_tokens: Called with the number of tokens that the frozen model has read, and the total.
        on_scores: Called with the scores of the baselines and the frozen model before a tuned
            model is trained.

    Raises:
        UserError: The labels are invalid (see `read_examples`), the text is too short to make
            labels from it, the run contains no model, or the classifier cannot be written.
    """
    started_at = time.perf_counter()
    config = replace(config, run=find_run(config.run))
    assert config.run is not None
    examples = _examples(config)
    if on_examples is not None:
        on_examples(examples)
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    wanted = target_folder(config.run, config.out, "classifier", foundation.model)
    materials = gather(config, foundation, examples, _dtype(config, foundation))
    frozen = _frozen(config, materials, on_tokens)
    trained = None
    if config.method == "frozen":
        loaded, base = frozen.loaded, foundation.path
        folder = save_to_new_folder(wanted, lambda path: save_classifier(loaded, path, base=base))
        probabilities: list[Measured] = []
    else:
        probabilities = [*_baselines(config, examples), frozen.measured]
        if on_scores is not None:
            on_scores([scores_of(model, examples) for model in probabilities])
        run, _ = open_fine_tuning(wanted, config)
        loaded, trained = _tune(config, materials, run, on_step, on_tokens)
        folder = run.path
        save_classifier(loaded, folder)
    after, run = AfterTraining(folder), RunFolder(folder)
    result = ClassifyResult(
        folder=folder,
        method=config.method,
        source=examples.source,
        names=examples.names,
        n_train=len(examples.split.train),
        n_validation=len(examples.split.validation),
        n_test=len(examples.split.test),
        audit=examples.audit,
        read=[*examples.notes, *examples.reading.sentences()],
        left_out=examples.left_out,
        n_cut=materials.n_cut,
        max_tokens=materials.max_tokens,
        trained=trained,
        warnings=after.warnings,
    )
    with after.step("Testing the classifier"):
        ours = frozen.measured if trained is None else _tested(config, loaded, materials, trained)
        if ours.calibration is not None and ours.calibration.temperature != 1.0:
            loaded.cool(ours.calibration.temperature)
            save_head(loaded, folder)
        result = _with_predictions(result, examples, ours)
    with after.step("Writing the settings"):
        run.write_config(config)
    with after.step("Testing the baselines"):
        if trained is None:
            probabilities = [*_baselines(config, examples), ours]
        result = _compared(result, examples, probabilities, None if trained is None else ours)
    with after.step("Writing the scores"):
        write_json(run.evaluation / "scores.json", result.summary())
    with after.step("Writing the report"):
        write_report(result)
    result = replace(
        result,
        elapsed_s=time.perf_counter() - started_at,
        n_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.stat().st_nlink == 1),
    )
    with after.step("Writing the README"):
        run.write_readme(readme(result))
    with after.step("Writing the manifest"):
        run.write_manifest({**_manifest(config, result, materials), "finished_at": now()})
    return result


@dataclass(frozen=True)
class _Frozen:
    loaded: LoadedClassifier
    measured: Measured


def _examples(config: ClassifyConfig) -> Examples:
    if config.labels is not None:
        return read_examples(config)
    passages = passages_by_source(
        documents_of(config.run, config.data, "train", instead="labels"),
        n_classes=config.n_classes,
        n_characters=config.passage_characters,
        test_frac=config.test_frac,
    )
    return passage_examples(config, passages)


def _dtype(config: ClassifyConfig, foundation: LanguageModel) -> torch.dtype:
    """Choose the format of the products; small models are as fast, and more exact, in float32."""
    n_parameters = sum(parameter.numel() for parameter in foundation.model.parameters())
    if config.dtype == "auto" and n_parameters < SMALL_MODEL:
        return torch.float32
    return choose_dtype(config.dtype, foundation.model.device)


def _frozen(config: ClassifyConfig, materials: Materials, on_tokens: OnTokens | None) -> _Frozen:
    started_s, examples = time.process_time(), materials.examples
    features = feature_rows(materials, on_tokens)

    def of(numbers: list[int]) -> Float[np.ndarray, "N P"]:
        width = len(next(iter(features.values())))
        return np.stack([features[number] for number in numbers] or [np.empty((0, width))])

    split = examples.split
    head = fit_head(
        of(split.train),
        examples.targets_of(split.train),
        len(examples.names),
        C=config.logistic_c,
        balance=config.balance,
    )
    gpt = materials.foundation.model
    classifier = Classifier(
        gpt,
        examples.names,
        pooling="mean+last",
        max_tokens=materials.max_tokens,
        dtype=materials.dtype,
    )
    classifier.head = head.to(gpt.device)
    validation = head_probabilities(head, of(split.validation)) if split.validation else None
    test = head_probabilities(head, of(split.test))
    spent_s = time.process_time() - started_s
    return _Frozen(
        LoadedClassifier(classifier, materials.foundation.tokenizer),
        measured(FROZEN, validation, test, examples, spent_s),
    )


def _baselines(config: ClassifyConfig, examples: Examples) -> list[Measured]:
    split = examples.split
    targets, K = examples.targets_of(split.train), len(examples.names)
    majority = class_frequencies(targets, K, len(split.test))
    found = [Measured(name=MAJORITY, test=majority, cpu_s=0.0)]
    for kind in (WORDS, CHARACTERS):
        started_s = time.process_time()
        model = TfidfClassifier(kind, config.balance).fit(examples.texts_of(split.train), targets)
        texts = examples.texts_of(split.validation)
        validation = model.probabilities(texts) if texts else None
        test = model.probabilities(examples.texts_of(split.test))
        spent_s = time.process_time() - started_s
        found.append(measured(kind, validation, test, examples, spent_s))
    return found


def _tune(
    config: ClassifyConfig,
    materials: Materials,
    run: RunFolder,
    on_step: OnStep | None,
    on_tokens: OnTokens | None,
) -> tuple[LoadedClassifier, Trained]:
    split = materials.examples.split
    return tune_classifier(
        materials.foundation.model,
        materials.foundation.tokenizer,
        config,
        TuningData(
            examples=materials.examples,
            train=materials.rows(split.train),
            validation=materials.rows(split.validation),
            base_sha256=materials.fingerprint,
            features=materials.features,
        ),
        run,
        dtype=materials.dtype,
        on_step=on_step,
        on_tokens=on_tokens,
    )


def _tested(
    config: ClassifyConfig, loaded: LoadedClassifier, materials: Materials, trained: Trained
) -> Measured:
    started_s, split = time.process_time(), materials.examples.split
    validation = loaded.of_rows(materials.rows(split.validation)).numpy()
    test = loaded.of_rows(materials.rows(split.test)).numpy()
    spent_s = trained.elapsed_s + time.process_time() - started_s
    return measured(TUNED[config.method], validation, test, materials.examples, spent_s)


def _compared(
    result: ClassifyResult, examples: Examples, models: list[Measured], tuned: Measured | None
) -> ClassifyResult:
    """Score all models; compare the frozen one with the best baseline, and the tuned with both."""
    frozen = models[-1]
    baselines = [scores_of(model, examples) for model in models[:-1]]
    best = min(range(len(baselines)), key=lambda k: baselines[k].all.log_loss_nats)
    comparisons = [compare(frozen, models[best], examples)]
    shown = [*models, average(AVERAGE, [models[2], frozen])]
    if tuned is not None:
        comparisons += [compare(tuned, models[best], examples), compare(tuned, frozen, examples)]
        shown.append(tuned)
    scored = [*baselines, *(scores_of(model, examples) for model in shown[len(baselines) :])]
    return replace(result, models=scored, comparisons=comparisons)


def _with_predictions(result: ClassifyResult, examples: Examples, ours: Measured) -> ClassifyResult:
    predictions = predictions_of(examples, ours.test)
    return replace(
        result,
        predictions=predictions,
        mistakes=confident_mistakes(examples, predictions),
        confusion=confusion_matrix(
            examples.names, [p.label for p in predictions], [p.predicted for p in predictions]
        ),
    )


def _manifest(
    config: ClassifyConfig, result: ClassifyResult, materials: Materials
) -> dict[str, object]:
    return {
        "job": "classify",
        "foundation": str(config.run),
        "base_sha256": materials.fingerprint,
        "labels": result.source,
        "method": config.method,
        "n_texts": {
            "train": result.n_train,
            "validation": result.n_validation,
            "test": result.n_test,
        },
        "n_cut": result.n_cut,
        "max_tokens": result.max_tokens,
        "audit": result.audit,
        "left_out": materials.examples.left_out,
        "reading": materials.examples.reading.to_table(),
        **materials.foundation.special_ids.to_manifest(),
    }
