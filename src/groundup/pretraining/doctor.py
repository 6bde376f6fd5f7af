"""`groundup doctor`: check a run, finished or not, and report its problems."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.data.loader import Loader
from groundup.evaluation.run_data import texts_of
from groundup.finetune.classify.classifier import load_classifier
from groundup.pretraining.config import DoctorConfig
from groundup.pretraining.data_checks import DATA_RULES, VOCABULARY, check_data
from groundup.pretraining.recorded import Recorded
from groundup.tokenizer.files import load_tokenizer
from groundup.train.checkpoint_state import Progress, verify_checkpoint, weights_file
from groundup.train.config import PretrainConfig
from groundup.train.curve_checks import (
    CHECKPOINTS,
    CURVE_RULES,
    WEIGHTS,
    CurveChecks,
    Finding,
    rolled_back,
)
from groundup.train.data import Data, WrongTokenizerError, open_texts, training_windows
from groundup.train.metrics import corrupt_lines, read_metrics
from groundup.weights.checkpoint_format import load_tensors

METRICS = "complete metrics"
_FROZEN = "the classifier was trained on frozen hidden states, without steps"
RULES = (*DATA_RULES, *CURVE_RULES, METRICS, WEIGHTS, CHECKPOINTS)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The result of the checks."""

    run: Path
    n_steps_done: int
    findings: tuple[Finding, ...]
    skipped: dict[str, str]
    """Rules that could not be applied, each with the reason."""
    checkpoint: Path | None
    """The newest intact checkpoint. None: there is none, so the run cannot be opened."""
    is_fine_tuning: bool = False
    """Whether the run starts from the model of another run."""

    @property
    def passed(self) -> tuple[str, ...]:
        """The rules that found nothing."""
        failed = {finding.rule for finding in self.findings}
        return tuple(rule for rule in RULES if rule not in failed and rule not in self.skipped)


@takes_settings(DoctorConfig, "run")
def doctor(config: DoctorConfig) -> Diagnosis:
    """Apply every rule to a run.

    Raises:
        UserError: The folder is not a run.
    """
    run = RunFolder.open(find_run(config.run, "training"))
    recorded = Recorded.of(run)
    findings, skipped = _check_inputs(run, recorded, config.data)
    intact, damaged = _check_checkpoints(run, recorded)
    findings += damaged
    checkpoint, progress = intact[0] if intact else (None, None)
    rows = read_metrics(run)
    n_steps_done = max(rows[-1]["step"] if rows else 0, progress.step if progress else 0)
    findings += _check_metrics(run, rows, n_steps_done)
    if rows:
        checks = CurveChecks(
            uniform_nats=recorded.uniform_nats,
            learning_rate=recorded.learning_rate,
            first_validation_loss_nats=(
                None if progress is None else progress.first_validation_loss_nats
            ),
        )
        findings += checks.start()
        for row in rows:
            findings += checks.check(row)
        skipped |= checks.skipped()
    else:
        why = "metrics.jsonl has no step" if n_steps_done else "the run has made no step yet"
        why = why if recorded.trains_steps else _FROZEN
        skipped |= dict.fromkeys(CURVE_RULES, why)
    findings += _check_failure(run)
    if checkpoint is not None and progress is not None:
        fix = _continue_without(checkpoint, run, recorded, [path for path, _ in intact[1:]])
        findings += _check_weights(checkpoint, progress, fix)
    elif not recorded.trains_steps:
        findings += _check_frozen(run)
        skipped[WEIGHTS] = _FROZEN
    elif damaged:
        skipped[WEIGHTS] = "there is no intact checkpoint"
    elif run.is_finished or _has_saved(recorded, n_steps_done):
        skipped[WEIGHTS] = "there is no checkpoint"
        findings.append(
            Finding(
                rule=CHECKPOINTS,
                message=f"There is no checkpoint in {run.checkpoints_path} although some were "
                "written: they were removed, and the model with them.",
                fix=_restore(run, recorded),
            )
        )
    else:
        skipped |= dict.fromkeys((WEIGHTS, CHECKPOINTS), "there is no checkpoint yet")
    return Diagnosis(
        run=run.path,
        n_steps_done=n_steps_done,
        findings=tuple(findings),
        skipped=skipped,
        checkpoint=checkpoint,
        is_fine_tuning=recorded.is_fine_tuning,
    )


def _check_frozen(run: RunFolder) -> Iterator[Finding]:
    """Check the files of a classifier on frozen hidden states, which has no checkpoints."""
    if run.is_finished:
        try:
            load_classifier(run.path)
        except UserError as error:
            fix = "Restore it from a copy, or train the classifier again."
            yield Finding(rule=CHECKPOINTS, message=error.located, fix=fix)


def _check_inputs(
    run: RunFolder, recorded: Recorded, folder: Path | None
) -> tuple[list[Finding], dict[str, str]]:
    """Check the data of a run; also return the rules that could not be applied."""
    if recorded.pretraining is None:
        return [], dict.fromkeys(DATA_RULES, "only for token stores")
    try:
        data = open_texts(texts_of(run) if folder is None else ((folder, 1.0),))
    except WrongTokenizerError as error:
        found = Finding(rule=VOCABULARY, message=error.message, fix=f"Run: {error.command}")
        others = [rule for rule in DATA_RULES if rule != VOCABULARY]
        return [found], dict.fromkeys(others, "the data was made with another tokenizer")
    except UserError as error:
        return [], dict.fromkeys(DATA_RULES, error.located)
    return _check_data(run, recorded.pretraining, data), {}


def _check_checkpoints(
    run: RunFolder, recorded: Recorded
) -> tuple[list[tuple[Path, Progress]], list[Finding]]:
    """Return the intact checkpoints, newest first, and the problems of the others."""
    intact, errors = [], {}
    for checkpoint in run.checkpoints():
        try:
            intact.append((checkpoint, verify_checkpoint(checkpoint)))
        except UserError as error:
            errors[checkpoint] = error
    others = [path for path, _ in intact]
    return intact, [
        Finding(
            rule=CHECKPOINTS,
            message=str(error),
            fix=_continue_without(checkpoint, run, recorded, others),
        )
        for checkpoint, error in errors.items()
    ]


def _has_saved(recorded: Recorded, n_steps_done: int) -> bool:
    """Whether an unfinished run must have written a checkpoint."""
    every = recorded.checkpoint_every
    return every is not None and n_steps_done > 2 * every


def _continue_without(
    checkpoint: Path, run: RunFolder, recorded: Recorded, others: list[Path]
) -> str:
    """Say what to do without a checkpoint, given the other intact ones, newest first."""
    if not others:
        return _restore(run, recorded)
    if run.is_finished:
        return f"Restore it from a copy, or remove {checkpoint}; an intact one is then used."
    return f"Remove {checkpoint} and run the same command again; it resumes from {others[0].name}."


def _restore(run: RunFolder, recorded: Recorded) -> str:
    """Say what to do without any checkpoint."""
    command = recorded.again(run.config_path)
    if run.is_finished:
        return f"Restore one from a copy, or train again in a new folder: {command}"
    return (
        f"Restore one from a copy, or remove {run.checkpoints_path} and start again at step 1: "
        f"{command}"
    )


def _check_metrics(run: RunFolder, rows: list[dict[str, Any]], n_steps: int) -> list[Finding]:
    """Report lines of metrics.jsonl that are missing or invalid.

    The last line of a run that was killed may be cut off: the next start writes that step again.
    """
    steps = sorted({row["step"] for row in rows})
    n_missing = n_steps - len(steps)
    invalid = corrupt_lines(run)
    problems = []
    if n_missing > 0:
        first = next((k for k, step in enumerate(steps, 1) if k != step), len(steps) + 1)
        problems.append(f"{n_missing:,} of {n_steps:,} steps have no line, the first is {first:,}")
    if invalid:
        more = f", and {len(invalid) - 1:,} more" if len(invalid) > 1 else ""
        problems.append(f"line {invalid[0]:,} is invalid{more}")
    if not problems:
        return []
    return [
        Finding(
            rule=METRICS,
            message=f"metrics.jsonl was removed, changed or damaged: {'; '.join(problems)}.",
            fix="Restore it from a copy. Only the loss curve needs it, not the model.",
        )
    ]


def _check_failure(run: RunFolder) -> list[Finding]:
    """Report why the run could not continue, if it could not."""
    if not run.failure.is_file():
        return []
    try:
        failure = read_json(run.failure)
    except UserError:
        failure = None
    message = failure.get("seen") if isinstance(failure, dict) else None
    return [
        Finding(
            rule=WEIGHTS,
            message=f"{message or 'The loss or a gradient was NaN or infinite.'} The run ended: "
            "there was no checkpoint to go back to, or three rollbacks did not help.",
            fix="Use a lower --learning-rate, or --max-grad-norm 1.",
        )
    ]


def _check_data(run: RunFolder, settings: PretrainConfig, data: Data) -> list[Finding]:
    findings = []
    own = load_tokenizer(run.tokenizer)
    if own.fingerprint != data.tokenizer.fingerprint:
        findings.append(
            Finding(
                rule=VOCABULARY,
                message="The data was encoded with another tokenizer than the run: its token ids "
                "mean other tokens to this model.",
                fix=f"Name the data it was trained on: groundup doctor {quoted(run.path)} "
                "--data FOLDER",
            )
        )
    if settings.model.vocab_size != own.vocab_size:
        findings.append(
            Finding(
                rule=VOCABULARY,
                message=f"The model has {settings.model.vocab_size:,} token ids and its tokenizer "
                f"{own.vocab_size:,}.",
                fix="Train again from the run's data: groundup pretrain.",
            )
        )
    windows = training_windows(settings, data)
    loader = Loader(windows, settings.batch_size, seed=settings.seed)
    steps = settings.steps if settings.budget is None else None
    return [*findings, *check_data(data, loader, steps=steps)]


def _check_weights(checkpoint: Path, progress: Progress, fix: str) -> list[Finding]:
    findings = [rolled_back(step, n) for n, step in enumerate(progress.rollbacks, start=1)]
    tensors = load_tensors(weights_file(checkpoint))
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        findings.append(
            Finding(
                rule=WEIGHTS,
                step=progress.step,
                message=f"{len(broken)} of {len(tensors)} weight tensors contain NaN or infinite "
                f"values, the first is {broken[0]}.",
                fix=fix,
            )
        )
    return findings
