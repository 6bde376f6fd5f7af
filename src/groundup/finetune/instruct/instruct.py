"""Fine-tune the model of a run as an assistant.

A record becomes a conversation in the chat template of the model, with the same ids as in
`groundup chat`. Only answers and their ends are targets of the loss. The test prompts are answered
before and after fine-tuning, and the scores stand beside those of answers that cost no training.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.files import write_json, write_text
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel
from groundup.finetune.foundation import open_foundation, target_folder
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.chat_tokens import with_chat_tokens
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.evaluation import (
    Evaluation,
    OnAnswer,
    answer_and_score,
    untuned_answers,
)
from groundup.finetune.instruct.examples import Dataset, Examples, read_dataset
from groundup.finetune.instruct.forgetting import plain_text
from groundup.finetune.instruct.identity import identity_of
from groundup.finetune.instruct.result import InstructResult, Prepared, answers_page, readme
from groundup.finetune.instruct.rows import (
    ShownToken,
    check_template,
    generation_prompt_differs,
    shown_tokens,
)
from groundup.finetune.instruct.tuning import Tuned, plain_rows, tune_assistant
from groundup.finetune.outcome import AfterTraining
from groundup.finetune.training import OnStep, mean_loss, open_fine_tuning
from groundup.weights.adapter import save_adapter
from groundup.weights.checkpoint_format import save_model


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """The settings, the model and the data of a run."""

    config: InstructConfig
    run: Path
    foundation: LanguageModel
    added_tokens: tuple[str, ...]
    dataset: Dataset


@takes_settings(InstructConfig, "run")
def instruct(
    config: InstructConfig,
    on_step: OnStep | None = None,
    on_answer: OnAnswer | None = None,
    on_prepared: Callable[[Prepared], None] | None = None,
) -> InstructResult:
    """Fine-tune an assistant, test it before and after, and write it to RUN/assistant.

    An interrupted run is resumed by the same call. The assistant is saved right after training. If
    a later step fails, such as the test, the result has a warning.

    Args:
        config: The settings.
        on_step: Called after each optimizer step.
        on_answer: Called after each answer to a test prompt.
        on_prepared: Called before training.

    Raises:
        UserError: A record is malformed, the text is too short for synthetic records, too few
            records fit the context, the run contains no model, or the assistant cannot be written.
    """
    started_at = time.perf_counter()
    opened = _open(config)
    config, foundation = opened.config, opened.foundation
    wanted = target_folder(opened.run, config.out, "assistant", foundation.model)
    examples = opened.dataset.examples()
    prepared = _prepared(opened, examples)
    if on_prepared is not None:
        on_prepared(prepared)
    run, _ = open_fine_tuning(wanted, config)
    text = plain_text(opened.run)
    plain_before = text.bits_per_byte(foundation.model, foundation.tokenizer)
    loss_before = mean_loss(foundation.model, examples.test_rows)
    before = _before(opened, examples, on_answer)
    tuned = _tune(opened, examples, run, on_step)
    assistant = dataclasses.replace(foundation, model=tuned.model)
    _save(assistant, tuned, prepared, run.path, opened.run)
    after = AfterTraining(run.path)
    result = InstructResult(
        folder=run.path,
        name=RunFolder.of(opened.run).path.resolve().name,
        prepared=prepared,
        trained=tuned.trained,
        n_parameters=sum(p.numel() for p in tuned.model.parameters()),
        n_trained_parameters=tuned.n_trained_parameters,
        max_new_tokens=_max_new_tokens(config),
        loss_before_nats=loss_before,
        plain_text=text.name,
        plain_before=plain_before,
        warnings=after.warnings,
    )
    with after.step("Measuring the test loss"):
        loss = mean_loss(assistant.model, examples.test_rows)
        result = dataclasses.replace(result, loss_after_nats=loss)
    with after.step("Measuring the loss on plain text"):
        plain_after = text.bits_per_byte(assistant.model, assistant.tokenizer)
        result = dataclasses.replace(result, plain_after=plain_after)
    with after.step("Testing the assistant"):
        answers = _answer(opened, assistant, examples, on_answer)
        evaluation = Evaluation(items=examples.items, answers={**before, baselines.TUNED: answers})
        result = dataclasses.replace(result, evaluation=evaluation)
    _write(result, opened, run, after)
    return dataclasses.replace(result, elapsed_s=time.perf_counter() - started_at)


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
    check_template(foundation.tokenizer, foundation.chat_template)
    n_parameters = sum(p.numel() for p in foundation.model.parameters())
    config = config.resolved(n_parameters)
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


def _prepared(opened: _Opened, examples: Examples) -> Prepared:
    config, dataset, foundation = opened.config, opened.dataset, opened.foundation
    groups = dataset.groups
    return Prepared(
        n_read=dataset.n_read,
        n_train=len(examples.rows),
        n_validation=len(examples.validation_rows),
        n_test=len(examples.items),
        n_too_long=dataset.rows.n_too_long,
        n_split=dataset.rows.n_split,
        n_repeats=0 if groups is None else groups.n_exact_repeats,
        n_groups=None if groups is None else groups.n_groups,
        n_test_near=sum(item.is_near_duplicate for item in examples.items),
        reading=dataset.reading,
        context_length=foundation.model.config.context_length,
        n_train_tokens=sum(len(ids) for ids, _ in examples.rows),
        n_answer_tokens=sum(t >= 0 for _, targets in examples.rows for t in targets),
        added_tokens=opened.added_tokens,
        prompt_differs=generation_prompt_differs(foundation.tokenizer, foundation.chat_template),
        recipe=config.recipe,
        n_steps=config.n_steps(len(examples.rows)),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        n_folds=config.folds or 0,
    )


def _before(opened: _Opened, examples: Examples, on_answer: OnAnswer | None) -> dict[str, Any]:
    return untuned_answers(
        opened.foundation,
        examples.items,
        examples.training,
        _max_new_tokens(opened.config),
        with_baselines=opened.config.baselines and opened.dataset.groups is not None,
        on_answer=on_answer,
    )


def _answer(
    opened: _Opened, assistant: LanguageModel, examples: Examples, on_answer: OnAnswer | None
) -> Any:
    answers = answer_and_score(
        assistant,
        examples.items,
        _max_new_tokens(opened.config),
        name=baselines.TUNED,
        on_answer=on_answer,
    )
    assert answers is not None  # every test row fits the context, and so does its prompt
    return answers


def _tune(opened: _Opened, examples: Examples, run: RunFolder, on_step: OnStep | None) -> Tuned:
    config, foundation = opened.config, opened.foundation
    T = foundation.model.config.context_length
    plain = plain_rows(config, foundation.tokenizer, T, len(examples.rows))
    rows = [*examples.rows, *plain]
    return tune_assistant(foundation, rows, examples.validation_rows, config, run, on_step=on_step)


def _max_new_tokens(config: InstructConfig) -> int:
    assert config.max_new_tokens is not None
    return config.max_new_tokens


def _save(
    assistant: LanguageModel, tuned: Tuned, prepared: Prepared, folder: Path, base: Path
) -> None:
    save_model(assistant.model, folder)
    if tuned.adapted is not None:
        save_adapter(tuned.adapted, folder / "adapter", base_name=str(base))
    assistant.tokenizer.save(folder / "tokenizer")
    if assistant.chat_template is not None:
        assistant.chat_template.save(folder / "tokenizer")
    # Written last: a folder with this file has a complete assistant. The test adds its numbers.
    write_json(folder / ASSISTANT_MARK, {"n_records": prepared.n_train})


def _write(result: InstructResult, opened: _Opened, run: RunFolder, after: AfterTraining) -> None:
    evaluation = result.evaluation
    with after.step("Writing the settings"):
        run.write_config(opened.config)
    with after.step("Writing the manifest"):
        special_ids = opened.foundation.special_ids.to_manifest()
        run.write_manifest({**_manifest(opened, result), **special_ids})
    if evaluation is not None:
        with after.step("Writing the answers"):
            write_text(run.samples / "answers.md", answers_page(evaluation))
            evaluation.write(run.path / "evaluation" / "answers.jsonl")
    with after.step("Writing the results"):
        write_json(run.path / ASSISTANT_MARK, result.summary())
    with after.step("Writing the README"):
        run.write_readme(readme(result))


def _manifest(opened: _Opened, result: InstructResult) -> dict[str, object]:
    prepared = result.prepared
    return {
        "foundation": str(opened.run),
        "n_records": prepared.n_train,
        "n_records_read": prepared.n_read,
        "added_tokens": list(prepared.added_tokens),
        "left_out": {"longer than the context": prepared.n_too_long},
        "reading": prepared.reading.to_table(),
    }
