"""Tune an assistant on preferences: pairs of a chosen and a rejected answer to the same prompt.

The log-probabilities of all answers under the model before training are computed once. Training
then raises the chosen answer against the rejected one, relative to them. The test compares the
preference accuracy with models of the two answers that need no language model.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.cross_validation import cross_validate, split_folds
from groundup.alignment.prefer.encoding import EncodedPair, encode_pairs
from groundup.alignment.prefer.evaluation import PreferenceReport
from groundup.alignment.prefer.job import PreferenceJob
from groundup.alignment.prefer.result import PreferResult, Sample, readme, samples_page
from groundup.alignment.prefer.split import PairSplit, split_pairs
from groundup.base.calling import takes_settings
from groundup.base.environment import now
from groundup.base.errors import UsageError, UserError, quoted
from groundup.base.files import write_json, write_text
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import newest_tuned
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel
from groundup.evaluation.merged import MergeReport, merge_and_save
from groundup.finetune.foundation import open_foundation, target_folder
from groundup.finetune.outcome import AfterTraining
from groundup.finetune.plan import FineTuningPlan, plan_fine_tuning
from groundup.finetune.training import OnStep, fine_tune, open_fine_tuning
from groundup.generation.generate import generate
from groundup.model.lora import has_lora, without_lora
from groundup.records.pairs import read_pairs
from groundup.text.left_out import LeftOut
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.special import END
from groundup.weights.checkpoint_format import save_model

FOLDER = "preferred"
_N_COMPARED = 4
"""Number of test texts on which the merged model is compared with the adapters."""


@takes_settings(PreferConfig, "run")
def prefer(
    config: PreferConfig,
    on_step: OnStep | None = None,
    on_reference: Callable[[int, int], None] | None = None,
    on_training: Callable[[str], None] | None = None,
) -> PreferResult | FineTuningPlan:
    """Tune the assistant of a run on preference pairs, test it and write it to RUN/preferred.

    With `plan_only` nothing is written, and the result is the cost.

    Args:
        config: The settings.
        on_step: Called after each optimizer step.
        on_reference: Called with the number of pairs whose reference log-probabilities are
            computed, and the number of all pairs.
        on_training: Called with the name of each training that begins: a fold, or the final model.

    Raises:
        UserError: The run has no assistant, the pairs are malformed or too few, or the result
            cannot be written.
        KeyboardInterrupt: After Ctrl-C, when a checkpoint is written.
    """
    began_at = time.perf_counter()
    config = dataclasses.replace(config, run=find_run(config.run, "assistant"))
    assert config.run is not None
    start = _assistant_of(config.run)
    foundation = open_foundation(start, device=config.device, threads=config.threads)
    if not foundation.can_chat:
        raise _no_assistant(config.run)
    outer = RunFolder.of(start).outer.path
    wanted = target_folder(outer, config.out, FOLDER, foundation.model)
    reading = LeftOut()
    pairs = read_pairs(
        _records(config),
        config,
        split_column=config.split_column,
        skip_invalid=config.skip_invalid,
        left_out=reading,
    )
    encoded, left_out = encode_pairs(
        pairs,
        foundation.tokenizer,
        foundation.chat_template,
        context_length=foundation.model.config.context_length,
        max_answer_tokens=config.max_answer_tokens,
    )
    sets, folds = _divided(encoded, len(pairs), config)
    job = PreferenceJob(config, foundation, encoded, sets)
    if config.plan_only:
        return plan_fine_tuning(job.without_reference())
    run, _ = open_fine_tuning(wanted, config)
    others = [folder for folder in sorted(wanted.parent.glob(f"{wanted.name}*")) if folder.is_dir()]
    samples = sets.shown[: config.n_samples]
    with run.log_to_file():
        reference = job.prepare_reference(run, others, on_reference)
        samples_began_at = time.monotonic()
        with without_lora(job.model):
            before = _answers(foundation, samples, config.max_new_tokens)
        job.after_s += time.monotonic() - samples_began_at
    tested: tuple[PreferenceReport | None, PreferenceReport | None] = None, None
    if config.folds is not None:
        tested = cross_validate(
            config, start, encoded, folds, run, on_step=on_step, on_training=on_training
        )
    if on_training is not None:
        on_training("final model")
    trained = fine_tune(job.tuning(), run, on_step=on_step)
    with run.log_to_file():
        merge = _save(foundation, run.path, job, start)
        result = PreferResult(
            folder=run.path,
            n_read=len(pairs),
            n_train=len(sets.train),
            n_validation=len(sets.validation),
            n_test=len(sets.test) if config.folds is None else len(encoded),
            left_out=left_out.sentences(),
            reading=reading,
            reference_from=reference.cached_in,
            merge=merge,
            trained=trained,
        )
        after = AfterTraining(run.path)
        with after.step("Testing the preferences"):
            report, distinct = job.report() if config.folds is None else tested
            result = dataclasses.replace(result, report=report, distinct=distinct)
        with after.step("Answering the samples"):
            now = _answers(foundation, samples, config.max_new_tokens)
            written = [
                Sample(pair.pair.prompt, a, b, pair.pair.chosen)
                for pair, a, b in zip(samples, before, now, strict=True)
            ]
            result = dataclasses.replace(result, samples=written)
            write_text(run.samples / "preferences.md", samples_page(written))
        elapsed_s = time.perf_counter() - began_at
        result = dataclasses.replace(result, elapsed_s=elapsed_s, warnings=after.warnings)
        with after.step("Writing the results"):
            write_json(run.evaluation / "preferences.json", result.summary())
        with after.step("Writing the README"):
            run.write_readme(readme(result, config))
        with after.step("Writing the manifest"):
            about = _manifest(config, start, result, job.key)
            about |= foundation.special_ids.to_manifest()
            run.write_manifest(run.read_manifest() | about)
    return result


def _records(config: PreferConfig) -> str | Path:
    if config.records is None:
        raise UsageError(
            "No file of preference pairs is given (records). A file with a prompt, a chosen and a "
            "rejected answer in each record is expected.",
            settings={"records": "pairs.jsonl"},
        )
    return config.records


def _divided(
    pairs: Sequence[EncodedPair], n_read: int, config: PreferConfig
) -> tuple[PairSplit, list[PairSplit]]:
    """Divide the pairs into the three sets, and for cross-validation into those of each fold."""
    try:
        sets = split_pairs(pairs, n_read, config)
        return sets, [] if config.folds is None else split_folds(pairs, config)
    except UsageError as error:
        hint = {"split": "random"} if config.folds is None else {"folds": None, "split": "random"}
        raise UsageError(error.message, settings=error.settings or hint) from error


def _assistant_of(path: Path) -> Path:
    """Find the newest assistant of a run, as `groundup chat` does; or else the path itself."""
    if (path / ASSISTANT_MARK).is_file():
        return path
    return newest_tuned(path, "assistant") or path


def _no_assistant(run: Path) -> UserError:
    return UserError(
        "This model does not answer prompts: it was not fine-tuned on instructions and has no chat "
        "template. An assistant is expected.",
        where=run,
        command=f"groundup instruct {quoted(RunFolder.of(run).path)}",
    )


def _answers(
    assistant: LanguageModel, pairs: Sequence[EncodedPair], max_new_tokens: int
) -> list[str]:
    """Answer the prompts of some pairs greedily."""
    if not pairs:
        return []
    tokenizer, template = assistant.tokenizer, assistant.chat_template
    ends = {tokenizer.special_tokens[END]} if template is None else set()
    prompts = [
        render_ids(pair.pair.messages, tokenizer, template, add_generation_prompt=True)[0]
        for pair in pairs
    ]
    stops = {*assistant.stop_ids, *ends}
    room = assistant.model.config.context_length - max(map(len, prompts))
    n_new = max(1, min(max_new_tokens, room))
    found = generate(assistant.model.eval(), prompts, n_new, temperature=0, stop_ids=stops)
    return [tokenizer.decode(ids) for ids in found]


def _save(
    assistant: LanguageModel, folder: Path, job: PreferenceJob, start: Path
) -> MergeReport | None:
    """Write the assistant, and its adapters if it has some."""
    report = None
    if has_lora(job.model):
        test = [pair.rows[0][0] for pair in job.sets.shown[:_N_COMPARED]]
        report = merge_and_save(
            job.model,
            folder,
            base_name=str(start),
            base_sha256=job.key["model"],
            check_ids=test,
        )
    else:
        save_model(job.model, folder)
    assistant.save_tokenizer(folder)
    # Written last: a folder with this file has a complete assistant.
    write_json(folder / ASSISTANT_MARK, {"n_pairs": len(job.sets.train)})
    return report


def _manifest(
    config: PreferConfig, start: Path, result: PreferResult, key: dict[str, str]
) -> dict[str, object]:
    return {
        "job": "prefer",
        "foundation": str(start.absolute()),
        "records": str(config.records),
        "reference": key,
        "n_pairs_read": result.n_read,
        "n_train": result.n_train,
        "n_validation": result.n_validation,
        "n_test": result.n_test,
        "left_out": result.left_out,
        "reading": result.reading.to_table(),
        "elapsed_s": result.elapsed_s,
        "finished_at": now(),
    }
