"""Train a classifier on the model of a run, and compare it with baselines on the same rows.

The frozen recipe always runs: the model is run once over all texts, and logistic regression is fit
to its hidden states. A tuned recipe starts from the same model and must beat it. Everything is
measured on the same test set, on all rows and on those without a near duplicate in the training
or validation set.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from groundup.base.calling import takes_settings
from groundup.base.environment import now
from groundup.base.errors import UsageError
from groundup.base.files import write_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.finetune.classify.classifier import save_classifier, save_head
from groundup.finetune.classify.comparison import Measured, average, compare, scores_of
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples, passage_examples, read_examples
from groundup.finetune.classify.fixed_shapes import OnTokens
from groundup.finetune.classify.materials import Materials, gather
from groundup.finetune.classify.mistakes import confident_mistakes, predictions_of
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.classify.recipes import baselines, frozen_model, products_dtype, tested
from groundup.finetune.classify.report import readme, write_report
from groundup.finetune.classify.result import (
    AVERAGE,
    ClassifyResult,
    ModelScores,
    confusion_matrix,
)
from groundup.finetune.classify.tuned import tune_classifier, tuning_job
from groundup.finetune.foundation import documents_of, open_foundation, target_folder
from groundup.finetune.outcome import AfterTraining, save_to_new_folder
from groundup.finetune.training import OnStep, open_fine_tuning

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
    if config.plan_only:
        raise UsageError(
            "plan_only is set, and classify trains. The function plan_classify estimates the cost."
        )
    started_at = time.monotonic()
    config = replace(config, run=find_run(config.run))
    assert config.run is not None
    examples = examples_of(config)
    if on_examples is not None:
        on_examples(examples)
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    wanted = target_folder(config.run, config.out, "classifier", foundation.model)
    materials = gather(config, foundation, examples, products_dtype(config, foundation))
    began_at = time.monotonic()
    frozen = frozen_model(config, materials, on_tokens)
    reading_s = time.monotonic() - began_at
    trained = None
    if config.method == "frozen":
        loaded, base = frozen.loaded, foundation.path
        folder = save_to_new_folder(
            wanted, lambda path: save_classifier(loaded, path, base=base), config=config
        )
        probabilities: list[Measured] = []
    else:
        probabilities = [*baselines(config, examples), frozen.measured]
        if on_scores is not None:
            on_scores([scores_of(model, examples) for model in probabilities])
        run, _ = open_fine_tuning(wanted, config)
        # The tuned model reads the validation set and the test set once more at the end.
        parts = examples.split.train, examples.split.validation, examples.split.test
        n_train, n_validation, n_test = map(len, parts)
        after_s = reading_s * (n_validation + n_test) / (n_train + n_validation + n_test)
        job = tuning_job(config, materials, on_tokens, started_at=started_at, after_s=after_s)
        loaded, trained = tune_classifier(job, run, on_step)
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
        ours = frozen.measured if trained is None else tested(config, loaded, materials, trained)
        if ours.calibration is not None and ours.calibration.temperature != 1.0:
            loaded.cool(ours.calibration.temperature)
            save_head(loaded, folder)
        result = _with_predictions(result, examples, ours)
    with after.step("Writing the settings"):
        run.write_config(config)
    with after.step("Testing the baselines"):
        if trained is None:
            probabilities = [*baselines(config, examples), ours]
        result = _compared(result, examples, probabilities, None if trained is None else ours)
    with after.step("Writing the scores"):
        write_json(run.evaluation / "scores.json", result.summary())
    with after.step("Writing the report"):
        write_report(result)
    result = replace(
        result,
        elapsed_s=time.monotonic() - started_at,
        n_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.stat().st_nlink == 1),
    )
    with after.step("Writing the README"):
        run.write_readme(readme(result))
    with after.step("Writing the manifest"):
        run.write_manifest({**_manifest(config, result, materials), "finished_at": now()})
    return result


def examples_of(config: ClassifyConfig) -> Examples:
    """Read the labeled texts, or cut passages from the documents of the run."""
    if config.labels is not None:
        return read_examples(config)
    passages = passages_by_source(
        documents_of(config.run, config.data, "train", instead="labels"),
        n_classes=config.n_classes,
        n_characters=config.passage_characters,
        test_frac=config.test_frac,
    )
    return passage_examples(config, passages)


def _compared(
    result: ClassifyResult, examples: Examples, models: list[Measured], tuned: Measured | None
) -> ClassifyResult:
    """Score all models; compare the frozen one with the best baseline, and the tuned with both."""
    frozen = models[-1]
    cheap = [scores_of(model, examples) for model in models[:-1]]
    best = min(range(len(cheap)), key=lambda k: cheap[k].all.log_loss_nats)
    comparisons = [compare(frozen, models[best], examples)]
    shown = [*models, average(AVERAGE, [models[2], frozen])]
    if tuned is not None:
        comparisons += [compare(tuned, models[best], examples), compare(tuned, frozen, examples)]
        shown.append(tuned)
    scored = [*cheap, *(scores_of(model, examples) for model in shown[len(cheap) :])]
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
    assert config.run is not None
    return {
        "job": "classify",
        "foundation": str(config.run.absolute()),
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
