"""Fine-tune the model of a run as an assistant.

A record becomes a conversation in the chat template of the model, with the same ids as in
`groundup chat`. Only answers and their ends are targets of the loss. The test prompts are answered
before and after fine-tuning, and the scores stand beside those of answers that cost no training.
"""

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.device import choose_dtype
from groundup.base.environment import now
from groundup.base.errors import UsageError, as_usage_error
from groundup.base.files import write_json, write_text
from groundup.base.folder_kinds import find_run
from groundup.base.optional import going_on
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel
from groundup.evaluation.merged import MergeReport, merge_and_save
from groundup.finetune.foundation import open_foundation, target_folder
from groundup.finetune.instruct.chat_tokens import with_chat_tokens
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.examples import Dataset, Examples, read_dataset
from groundup.finetune.instruct.forgetting import plain_text
from groundup.finetune.instruct.identity import identity_of
from groundup.finetune.instruct.result import (
    InstructResult,
    Prepared,
    answers_page,
    main_table,
    readme,
)
from groundup.finetune.instruct.rows import (
    ShownToken,
    check_template,
    generation_prompt_differs,
    shown_tokens,
)
from groundup.finetune.instruct.testing import (
    ANSWERS,
    UNTUNED_ANSWERS,
    Callbacks,
    answer_bits,
    answer_loss,
    check_time_for_tests,
    cross_validate,
    estimate_tests_s,
    measure_after,
    measure_before,
    training_job,
    tune,
)
from groundup.finetune.instruct.tuning import Tuned, n_plain_rows
from groundup.finetune.job import base_fingerprint
from groundup.finetune.outcome import AfterTraining
from groundup.finetune.plan import FineTuningPlan, plan_fine_tuning
from groundup.finetune.training import open_fine_tuning
from groundup.weights.checkpoint_format import save_model

_N_CHECKED = 8
"""Rows on which the merged model is compared with its adapters."""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """The settings, the model and the data of a run."""

    config: InstructConfig
    run: Path
    foundation: LanguageModel
    added_tokens: tuple[str, ...]
    dataset: Dataset

    @property
    def with_baselines(self) -> bool:
        """Whether the answers are compared with others; those to synthetic records are not."""
        return self.config.baselines and self.dataset.groups is not None


@takes_settings(InstructConfig, "run")
def instruct(
    config: InstructConfig,
    callbacks: Callbacks | None = None,
    on_prepared: Callable[[Prepared], None] | None = None,
) -> InstructResult:
    """Fine-tune an assistant, test it before and after, and write it to RUN/assistant.

    An interrupted run is resumed by the same call. The assistant is saved right after training. If
    a later step fails, such as the test, the result has a warning.

    Args:
        config: The settings.
        callbacks: Called while it is trained and tested.
        on_prepared: Called before the first test.

    Raises:
        UserError: A record is malformed, the text is too short for synthetic records, too few
            records fit the context, the run contains no model, or the assistant cannot be written.
    """
    if config.plan_only:
        raise UsageError(
            "plan_only is set, and instruct trains. The function plan_instruct estimates the cost."
        )
    started_at = time.monotonic()
    callbacks = callbacks or Callbacks()
    opened = _open(config)
    config, foundation = opened.config, opened.foundation
    wanted = target_folder(opened.run, config.out, "assistant", foundation.model)
    dataset = opened.dataset
    examples, parts = _divided(opened)
    prepared = _prepared(opened, examples)
    if on_prepared is not None:
        on_prepared(prepared)
    with_baselines = opened.with_baselines
    is_tested = (wanted / "evaluation" / UNTUNED_ANSWERS).is_file()
    if config.budget is not None and config.folds is None and not is_tested:
        tests_s = estimate_tests_s(foundation, examples, config, with_baselines=with_baselines)
        check_time_for_tests(config, len(examples.items), tests_s, started_at)
    run, _ = open_fine_tuning(wanted, config)
    text, dtype = plain_text(opened.run), choose_dtype(config.dtype, foundation.model.device)
    plain_before = None
    with going_on("The loss on plain text"):
        plain_before = text.bits_per_byte(foundation.model, foundation.tokenizer, dtype)
    folds = before = None
    bits_before = bits_after = None
    if dataset.groups is None:
        bits_before = answer_bits(foundation.model, examples, config)
    if config.folds is None:
        before = measure_before(
            foundation,
            examples,
            config,
            run.path,
            callbacks,
            with_baselines=with_baselines,
        )
        loss_before = before.loss_nats
    else:
        folds = cross_validate(foundation, parts, config, run.path, callbacks)
        loss_before = folds.loss_before_nats
    tuned = tune(
        foundation,
        examples,
        config,
        run,
        callbacks,
        after_s=0.0 if before is None else before.elapsed_s,
        started_at=started_at,
    )
    assistant = dataclasses.replace(foundation, model=tuned.model)
    merged = _save(opened, assistant, tuned, examples, run.path)
    after = AfterTraining(run.path)
    result = InstructResult(
        folder=run.path,
        name=RunFolder.of(opened.run).path.resolve().name,
        prepared=prepared,
        trained=tuned.trained,
        n_parameters=sum(p.numel() for p in tuned.model.parameters()),
        n_trained_parameters=tuned.n_trained_parameters,
        max_new_tokens=config.max_new_tokens or 0,
        n_shots=config.shots if config.baselines else 0,
        loss_before_nats=loss_before,
        bits_before=bits_before,
        plain_text=text.name,
        plain_before=plain_before,
        merge=merged,
        warnings=after.warnings,
    )
    if plain_before is not None:
        with after.step("Measuring the loss on plain text"):
            plain_after = text.bits_per_byte(assistant.model, assistant.tokenizer, dtype)
            result = dataclasses.replace(result, plain_after=plain_after)
    with after.step("Testing the assistant"):
        if folds is not None:
            loss, evaluation = folds.loss_after_nats, folds.evaluation
        elif before is not None:
            loss = answer_loss(assistant.model, examples.test_rows, config)
            evaluation = measure_after(assistant, before, config, callbacks)
        if dataset.groups is None:
            bits_after = answer_bits(assistant.model, examples, config)
        result = dataclasses.replace(
            result, loss_after_nats=loss, evaluation=evaluation, bits_after=bits_after
        )
        result = dataclasses.replace(result, table=main_table(result))
    result = dataclasses.replace(result, elapsed_s=time.monotonic() - started_at)
    _write(result, opened, run, after)
    return result


@takes_settings(InstructConfig, "run")
def plan_instruct(config: InstructConfig) -> FineTuningPlan:
    """Estimate the cost of the training, without training.

    Raises:
        UserError: As `instruct`.
    """
    started_at = time.monotonic()
    opened = _open(config)
    examples, _ = _divided(opened)
    config, before_s, after_s = opened.config, 0.0, 0.0
    if config.folds is None:
        before_s, after_s = estimate_tests_s(
            opened.foundation, examples, config, with_baselines=opened.with_baselines
        )
    job = training_job(
        opened.foundation, examples, config, after_s=after_s, started_at=started_at - before_s
    )
    return plan_fine_tuning(job)


@takes_settings(InstructConfig, "run")
def show_records(config: InstructConfig) -> list[tuple[str, list[ShownToken]]]:
    """Render the first `config.show` training records, without training.

    Returns:
        For each record where it is from, and its tokens.

    Raises:
        UserError: As `instruct`.
    """
    opened = _open(config)
    model = opened.foundation
    some = opened.dataset.rows.conversations[: config.show]
    return [(c.where, shown_tokens(c, model.tokenizer, model.chat_template)) for c in some]


def _open(config: InstructConfig) -> _Opened:
    run = find_run(config.run)
    config = dataclasses.replace(config, run=run)
    foundation = open_foundation(run, device=config.device, threads=config.threads)
    added: tuple[str, ...] = ()
    if foundation.chat_template is None:
        foundation, added = with_chat_tokens(foundation, seed=config.seed)
        # So that its answers end at <|end|>, also before fine-tuning.
        foundation = dataclasses.replace(foundation, is_assistant=True)
    n_parameters = sum(p.numel() for p in foundation.model.parameters())
    config = config.resolved(n_parameters)
    with as_usage_error():
        check_template(foundation.tokenizer, foundation.chat_template)
    with nullcontext() if config.records is None else as_usage_error():
        dataset = read_dataset(
            config,
            foundation.tokenizer,
            foundation.model.config.context_length,
            foundation.chat_template,
            identity_of(run, config.data, n_parameters),
        )
    return _Opened(
        config=config, run=run, foundation=foundation, added_tokens=added, dataset=dataset
    )


def _divided(opened: _Opened) -> tuple[Examples, list[Examples]]:
    """Return the examples of the final training, and for cross-validation those of each fold."""
    dataset, n_folds = opened.dataset, opened.config.folds
    if n_folds is None:
        return dataset.examples(), []
    return dataset.everything(), dataset.folds(n_folds, opened.config.seed)


def _prepared(opened: _Opened, examples: Examples) -> Prepared:
    config, dataset, foundation = opened.config, opened.dataset, opened.foundation
    groups, n_plain = dataset.groups, n_plain_rows(config, len(examples.rows))
    return Prepared(
        n_read=dataset.n_read,
        n_train=len(examples.rows),
        n_validation=len(examples.validation_rows),
        n_test=len(examples.items) if config.folds is None else len(dataset.rows.rows),
        n_too_long=dataset.rows.n_too_long,
        n_split=dataset.rows.n_split,
        n_repeats=0 if groups is None else groups.n_exact_repeats,
        n_groups=None if groups is None else groups.n_groups,
        n_test_near=sum(item.is_near_duplicate for item in examples.items),
        reading=dataset.reading,
        context_length=foundation.model.config.context_length,
        n_train_tokens=sum(len(ids) for ids, _ in examples.rows),
        n_answer_tokens=sum(t >= 0 for _, targets in examples.rows for t in targets),
        n_plain_rows=n_plain,
        added_tokens=opened.added_tokens,
        prompt_differs=generation_prompt_differs(foundation.tokenizer, foundation.chat_template),
        method=config.method,
        n_steps=config.n_steps(len(examples.rows) + n_plain),
        batch_size=config.batch_size or 0,
        learning_rate=config.learning_rate or 0.0,
        n_folds=config.folds or 0,
    )


def _save(
    opened: _Opened, assistant: LanguageModel, tuned: Tuned, examples: Examples, folder: Path
) -> MergeReport | None:
    """Write the complete model and its tokenizer, and the adapters, if there are any."""
    merged = None
    if tuned.adapted is None:
        save_model(assistant.model, folder)
    else:
        merged = merge_and_save(
            tuned.adapted,
            folder,
            base_name=str(opened.run),
            base_sha256=base_fingerprint(opened.foundation),
            check_ids=[ids for ids, _ in examples.rows[:_N_CHECKED]],
        )
    assistant.save_tokenizer(folder)
    # Written last: a folder with this file has a complete assistant. The test adds its numbers.
    is_synthetic = opened.config.records is None
    about = {"n_records": len(examples.rows), "is_synthetic": is_synthetic}
    write_json(folder / ASSISTANT_MARK, about)
    return merged


def _write(result: InstructResult, opened: _Opened, run: RunFolder, after: AfterTraining) -> None:
    evaluation = result.evaluation
    if evaluation is not None:
        with after.step("Writing the answers"):
            write_text(run.samples / "answers.md", answers_page(evaluation))
            evaluation.write(run.path / "evaluation" / ANSWERS)
    with after.step("Writing the results"):
        write_json(run.path / ASSISTANT_MARK, result.summary())
    with after.step("Writing the README"):
        run.write_readme(readme(result))
    with after.step("Writing the manifest"):  # last: it says that the run is finished
        special_ids = opened.foundation.special_ids.to_manifest()
        found = {**run.read_manifest(), **_manifest(opened, result), **special_ids}
        run.write_manifest({**found, "finished_at": now()})


def _manifest(opened: _Opened, result: InstructResult) -> dict[str, object]:
    prepared = result.prepared
    return {
        "foundation": str(opened.run.absolute()),
        "n_records": prepared.n_train,
        "n_records_read": prepared.n_read,
        "added_tokens": list(prepared.added_tokens),
        "left_out": {"longer than the context": prepared.n_too_long},
        "reading": prepared.reading.to_table(),
    }
