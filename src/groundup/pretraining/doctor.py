"""`groundup doctor`: look at a run, finished or not, and name what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.config import from_mapping
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.run import RunFolder
from groundup.data.loader import Loader
from groundup.data.run_data import data_of
from groundup.data.windows import Windows
from groundup.pretraining.checkpoint import Progress, verify_checkpoint
from groundup.pretraining.curve_checks import (
    CHECKPOINTS,
    CURVE_RULES,
    WEIGHTS,
    Finding,
    Watch,
    rolled_back,
)
from groundup.pretraining.data_checks import DATA_RULES, VOCABULARY, check_data
from groundup.pretraining.metrics import corrupt_lines, read_metrics
from groundup.tokenizer.files import load_tokenizer
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, WrongTokenizerError, open_data
from groundup.weights.checkpoint_format import load_tensors

METRICS = "every step has its line"
RULES = (*DATA_RULES, *CURVE_RULES, METRICS, WEIGHTS, CHECKPOINTS)


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Which run to look at."""

    run: Path = Path("runs/pretrain")
    """run folder of pretrain, finished or not"""
    data: Path | None = None
    """data folder; None: the one the run was trained on"""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found."""

    run: Path
    n_steps_done: int
    findings: tuple[Finding, ...]
    not_examined: dict[str, str]
    """rules that could not be applied, and why"""
    checkpoint: Path | None
    """the newest whole one; None: there is none, so the run cannot be opened"""

    @property
    def healthy(self) -> tuple[str, ...]:
        """The rules that found nothing."""
        ill = {finding.rule for finding in self.findings}
        return tuple(rule for rule in RULES if rule not in ill and rule not in self.not_examined)


def doctor(config: DoctorConfig) -> Diagnosis:
    """Apply every rule to a run.

    Raises:
        UserError: There is no run of pretrain here.
    """
    run = RunFolder.open(config.run)
    settings = from_mapping(PretrainConfig, run.read_config(), where=str(run.config_path))
    findings: list[Finding] = []
    not_examined: dict[str, str] = {}
    try:
        data = open_data(config.data or data_of(run))
    except WrongTokenizerError as error:
        findings.append(Finding(rule=VOCABULARY, seen=error.message, cure=f"Run: {error.command}"))
        others = [rule for rule in DATA_RULES if rule != VOCABULARY]
        not_examined |= dict.fromkeys(others, "the data is another tokenizer's")
    except UserError as error:
        not_examined |= dict.fromkeys(DATA_RULES, error.located)
    else:
        findings += _of_data(run, settings, data)
    whole, damaged = _checkpoints(run)
    findings += damaged
    checkpoint, progress = whole[0] if whole else (None, None)
    rows = read_metrics(run)
    n_steps_done = max(rows[-1]["step"] if rows else 0, progress.step if progress else 0)
    findings += _of_metrics(run, rows, n_steps_done)
    if rows:
        watch = Watch(
            vocab_size=settings.model.vocab_size,
            learning_rate=settings.learning_rate,
            first_validation_loss_nats=(
                None if progress is None else progress.first_validation_loss_nats
            ),
        )
        findings += watch.start()
        for row in rows:
            findings += watch.look(row)
        not_examined |= watch.not_examined()
    else:
        why = "metrics.jsonl tells of none" if n_steps_done else "no step has been made yet"
        not_examined |= dict.fromkeys(CURVE_RULES, why)
    findings += _of_failure(run)
    if checkpoint is not None and progress is not None:
        cure = _without(checkpoint, run, [path for path, _ in whole[1:]])
        findings += _of_weights(checkpoint, progress, cure)
    elif damaged:
        not_examined[WEIGHTS] = "there is no whole checkpoint"
    elif run.is_finished or n_steps_done > 2 * settings.checkpoint_every:
        not_examined[WEIGHTS] = "there is no checkpoint"
        findings.append(
            Finding(
                rule=CHECKPOINTS,
                seen=f"no checkpoint is left in {run.checkpoints_path}, and some were written: "
                "they were removed, and the model with them",
                cure=_put_back(run),
            )
        )
    else:
        not_examined |= dict.fromkeys((WEIGHTS, CHECKPOINTS), "there is no checkpoint yet")
    return Diagnosis(
        run=run.path,
        n_steps_done=n_steps_done,
        findings=tuple(findings),
        not_examined=not_examined,
        checkpoint=checkpoint,
    )


def _checkpoints(run: RunFolder) -> tuple[list[tuple[Path, Progress]], list[Finding]]:
    """The whole ones, the newest first, and what is wrong with the others."""
    whole, errors = [], {}
    for checkpoint in run.checkpoints():
        try:
            whole.append((checkpoint, verify_checkpoint(checkpoint)))
        except UserError as error:
            errors[checkpoint] = error
    others = [path for path, _ in whole]
    return whole, [
        Finding(rule=CHECKPOINTS, seen=str(error), cure=_without(checkpoint, run, others))
        for checkpoint, error in errors.items()
    ]


def _without(checkpoint: Path, run: RunFolder, others: list[Path]) -> str:
    """What to do without a checkpoint, given the other whole ones, the newest first."""
    if not others:
        return _put_back(run)
    if run.is_finished:
        return f"Put a whole copy back, or remove {checkpoint}: a whole one is opened then"
    return f"Remove {checkpoint} and give the command again: it goes on from {others[0].name}"


def _put_back(run: RunFolder) -> str:
    """What to do without any checkpoint."""
    command = f"groundup pretrain --recipe {quoted(run.config_path)}"
    if run.is_finished:
        return f"Put a whole copy back, or train anew in a new folder: {command}"
    return (
        f"Put a whole copy back, or remove all of {run.checkpoints_path} and begin anew at "
        f"step 1: {command}"
    )


def _of_metrics(run: RunFolder, rows: list[dict[str, Any]], n_steps: int) -> list[Finding]:
    """Lines of metrics.jsonl that are missing or spoilt.

    The last line of a run that was killed may be cut off: the next start writes that step again.
    """
    steps = sorted({row["step"] for row in rows})
    n_missing = n_steps - len(steps)
    spoilt = corrupt_lines(run)
    seen = []
    if n_missing > 0:
        first = next((k for k, step in enumerate(steps, 1) if k != step), len(steps) + 1)
        seen.append(f"{n_missing:,} of {n_steps:,} steps have no line, step {first:,} first")
    if spoilt:
        more = f", and {len(spoilt) - 1:,} more" if len(spoilt) > 1 else ""
        seen.append(f"line {spoilt[0]:,} is spoilt{more}")
    if not seen:
        return []
    return [
        Finding(
            rule=METRICS,
            seen=f"metrics.jsonl was removed, changed or damaged: {'; '.join(seen)}",
            cure="Put a whole copy of it back; the model needs none of it, only its curve does",
        )
    ]


def _of_failure(run: RunFolder) -> list[Finding]:
    """Why the run could not go on, if so."""
    if not run.failure.is_file():
        return []
    try:
        told = read_json(run.failure)
    except UserError:
        told = None
    seen = told.get("seen") if isinstance(told, dict) else None
    return [
        Finding(
            rule=WEIGHTS,
            seen=f"{seen or 'the loss or a gradient was no number'}, and no checkpoint led on",
            cure="Take a lower --learning-rate, or --max-grad-norm 1",
        )
    ]


def _of_data(run: RunFolder, settings: PretrainConfig, data: Data) -> list[Finding]:
    findings = []
    own = load_tokenizer(run.tokenizer)
    if own.fingerprint != data.tokenizer.fingerprint:
        findings.append(
            Finding(
                rule=VOCABULARY,
                seen="the data speaks another tokenizer's ids than the run: its model would read "
                "nonsense",
                cure="Give the data it was trained on: groundup doctor RUN --data FOLDER",
            )
        )
    if settings.model.vocab_size != own.vocab_size:
        findings.append(
            Finding(
                rule=VOCABULARY,
                seen=f"the model has {settings.model.vocab_size:,} tokens and its tokenizer "
                f"{own.vocab_size:,}",
                cure="Start the run anew from its data: groundup pretrain",
            )
        )
    windows = Windows(data.train, settings.model.context_length, settings.stride)
    loader = Loader(windows, settings.batch_size, seed=settings.seed)
    return [*findings, *check_data(data, loader, steps=settings.steps)]


def _of_weights(checkpoint: Path, progress: Progress, cure: str) -> list[Finding]:
    findings = [rolled_back(step, n) for n, step in enumerate(progress.rollbacks, start=1)]
    tensors = load_tensors(checkpoint / "model.safetensors")
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        findings.append(
            Finding(
                rule=WEIGHTS,
                step=progress.step,
                seen=f"{len(broken)} of {len(tensors)} weight tensors hold what is no number, "
                f"{broken[0]} first",
                cure=cure,
            )
        )
    return findings
