"""The fine-tuning of a model: an unfinished run is resumed, and the best weights are kept."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from groundup.base.checkpoints import step_name
from groundup.base.environment import now
from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.base.files import write_text
from groundup.base.machine import peak_memory_bytes
from groundup.base.optional import going_on
from groundup.base.run import RunFolder
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batch_stream import BatchStream
from groundup.finetune.batches import Row, pad_rows, sequence_loss
from groundup.finetune.budget import seconds_for_steps, steps_within_budget
from groundup.finetune.config import FineTuneConfig
from groundup.finetune.job import FineTuning
from groundup.finetune.memory import check_disk, check_memory
from groundup.finetune.number_format import mixed_precision, validation_of
from groundup.finetune.plan import interval
from groundup.model.gpt import GPT
from groundup.train.checkpoint import load_weights
from groundup.train.curve_checks import Finding
from groundup.train.job import Job
from groundup.train.metrics import read_metrics
from groundup.train.run_lookup import open_run
from groundup.train.schedule import Schedule
from groundup.train.step import Step
from groundup.train.trainer import Trainer

_log = logging.getLogger(__name__)
OnStep = Callable[[Step], None]
"""Called after each optimizer step."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training did. The model holds the best weights."""

    n_steps: int
    """Number of finished optimizer steps."""
    best_step: int
    """The step with the lowest validation loss; without a validation, the last one."""
    resumed_from_step: int
    """0: not resumed."""
    first_validation_loss_nats: float | None
    """Before the first step."""
    validation_loss_nats: float | None
    """At the best step."""
    elapsed_s: float
    """Training time, summed over all sessions."""
    peak_memory_bytes: int
    """Peak memory of this process, or of the GPU."""
    stopped_reason: str
    """"steps": all steps are done. "budget": the time was up."""


def fine_tune(
    job: FineTuning,
    run: RunFolder,
    *,
    on_step: OnStep | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> Trained:
    """Train a job in a run folder; afterwards its model holds the best weights.

    An unfinished run resumes from its last intact checkpoint by itself. On a CPU it ends with the
    same weights, bit for bit, as if it had not been interrupted. A run whose training is done only
    loads them.

    Args:
        job: What to train.
        run: The run folder, from `open_fine_tuning`.
        on_step: Called after each optimizer step.
        on_finding: Called when a check fails; log.txt records it, too.

    Raises:
        UserError: The run does not fit in memory or on the disk, its checkpoints are damaged or
            belong to another job, or the loss diverged.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when a checkpoint is written.
    """
    started_at = time.monotonic() if job.started_at is None else job.started_at
    if job.config.tensorboard:
        needed("tensorboard", "tensorboard", "tensorboard=True")
    with run.locked(), run.log_to_file():
        if not run.manifest_path.is_file():
            verb = type(job.config).__name__.removesuffix("Config").lower()
            run.write_manifest({"verb": verb, "started_at": now(), "identity": job.identity})
        check_disk(job, run)
        check_memory(job)
        trainer = Trainer(_trainer_job(job, started_at), run, on_step, None, on_finding)
        # Dropout uses torch's global random state, which checkpoints store.
        torch.manual_seed(job.config.seed)
        trainer.start(bool(run.checkpoints()))
        resumed_from = trainer.progress.step
        job.model.train()
        trainer.train()
        progress = trainer.progress
        best = progress.step if progress.best_step is None else progress.best_step
        if best != progress.step:
            _load_best(job, run, best)
        job.model.eval()
        with going_on("The figure of the loss"):
            from groundup.train.curves import draw_curves  # importing matplotlib is slow

            write_text(run.figures / "loss.svg", draw_curves({"": read_metrics(run)}))
    return Trained(
        n_steps=progress.step,
        best_step=best,
        resumed_from_step=resumed_from,
        first_validation_loss_nats=progress.first_validation_loss_nats,
        validation_loss_nats=progress.best_loss_nats,
        elapsed_s=progress.elapsed_s,
        peak_memory_bytes=peak_memory_bytes(job.optimizer.watched.device),
        stopped_reason="steps" if progress.step >= job.n_steps else "budget",
    )


def _trainer_job(job: FineTuning, started_at: float) -> Job:
    """Describe a fine-tuning job to the trainer."""
    config, mixed = job.config, mixed_precision(job)
    for module in job.model.modules():
        if isinstance(module, GPT):
            module.activation_checkpointing = config.activation_checkpointing

    def loss(*batch: torch.Tensor) -> torch.Tensor:
        return mixed.run(lambda model, *rows: job.loss(*rows), *batch)

    warmup_steps = min(round(config.warmup_frac * job.n_steps), job.n_steps - 1)
    validate = validation_of(job, mixed)
    n_steps, step_s = steps_within_budget(job)
    validate_every = interval(config.validate_every, n_steps)
    n_validations = 0 if validate is None else n_steps // validate_every

    def time_for_steps(validation_s: float) -> float | None:
        return seconds_for_steps(
            job,
            step_s=step_s,
            started_at=started_at,
            validation_s=validation_s,
            n_validations=n_validations,
        )

    return Job(
        model=job.model,
        optimizer=job.optimizer,
        schedule=Schedule(n_steps=job.n_steps, warmup_steps=warmup_steps, decay="linear"),
        loader=BatchStream(job.batches, job.optimizer.watched.device, job.before_step),
        loss=loss,
        count=job.count,
        validate=validate,
        first_validation=validate,
        validate_every=validate_every,
        checkpoint_every=interval(config.checkpoint_every, n_steps),
        keep_checkpoints=config.keep_checkpoints,
        grad_accumulation_steps=config.grad_accumulation_steps,
        max_grad_norm=config.max_grad_norm,
        tensorboard=config.tensorboard,
        identity=job.identity,
        warmup_frac=config.warmup_frac,
        time_for_steps=time_for_steps,
        most_steps=None if config.budget is None else job.n_steps,
    )


def _load_best(job: FineTuning, run: RunFolder, step: int) -> None:
    checkpoint = run.checkpoints_path / step_name(step)
    if not checkpoint.is_dir():
        raise UserError(
            "The best checkpoint of this run is missing. Restore it from a copy, or train again in "
            "another folder.",
            where=checkpoint,
            settings={"out": f"{run.path}-2"},
        )
    load_weights(checkpoint, job.model)


def open_fine_tuning(wanted: Path, config: FineTuneConfig) -> tuple[RunFolder, bool]:
    """Find or make the run folder for a config.

    The folders `wanted`, `wanted-2`, `wanted-3` ... are tried in this order. The first one with an
    unfinished run of exactly these settings is resumed. A run is finished when its manifest has a
    "finished_at", which a command writes last, so that a run that was killed while it wrote its
    results is resumed, too.

    Returns:
        The folder, with config.toml in it, and whether it holds an unfinished run.

    Raises:
        UserError: The folder is not writable.
    """
    run, is_unfinished = open_run(wanted, config, may_resume=_was_started_here)
    if not is_unfinished:
        run.write_config(config)
    return run, is_unfinished


def _was_started_here(run: RunFolder) -> bool:
    """Whether `fine_tune` writes this run. Folders of version 0.1 have no "started_at"."""
    manifest = run.read_manifest()
    return not manifest or "started_at" in manifest


def mean_loss(model: GPT, rows: Sequence[Row], *, batch_size: int = 32) -> float:
    """Compute the mean loss in nats over all targets of the rows, each target weighted equally.

    Args:
        model: The model, in any mode.
        rows: The rows to evaluate.
        batch_size: Number of rows per batch. The result does not depend on it.
    """
    if not rows:
        raise ValueError("There are no rows to compute the loss on.")
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, n_targets = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            targets = pad_rows([t for _, t in some], pad=IGNORE_INDEX).to(device)
            ids = pad_rows([i for i, _ in some], pad=0).to(device)
            total += float(sequence_loss(model, ids, targets, reduction="sum"))
            n_targets += int((targets != IGNORE_INDEX).sum())
    model.train(was_training)
    return total / n_targets
