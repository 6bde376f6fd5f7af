"""The trainer: log, check and save every step of a run, and roll back when it diverges."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from groundup.base.checkpoints import list_checkpoints, step_name
from groundup.base.errors import UserError
from groundup.base.files import write_json, write_text
from groundup.base.optional import going_on
from groundup.base.run import RunFolder
from groundup.train.checkpoint import CheckpointWriter, find_latest, load_checkpoint, point_to
from groundup.train.checkpoint_state import Progress, write_progress
from groundup.train.curve_checks import ROLLBACK_DIVISOR, CurveChecks, Finding, rolled_back
from groundup.train.divergence import DivergedError, diverged
from groundup.train.interrupt import StopRequest, stop_between_steps
from groundup.train.job import Job
from groundup.train.loop import train_steps
from groundup.train.metrics import drop_metrics_after, log_metrics, read_metrics
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.step import Step
from groundup.train.tensorboard import TensorBoardWriter

_log = logging.getLogger(__name__)
_MOST_ROLLBACKS = 3
WORSE, _LAST_DECAY_FRAC = 1.003, 0.2
"""A run under a budget whose validation loss is this many times its lowest decays its learning rate
to zero within this fraction of the time so far."""


class Trainer:
    """Train a run from its first step, or its last checkpoint, to its end.

    Args:
        job: What to train.
        folder: The run folder.
        on_step: Called with each finished step.
        on_sample: Called with the step and a text that the model generated.
        on_finding: Called when a check fails; log.txt records it, too.
    """

    def __init__(
        self,
        job: Job,
        folder: RunFolder,
        on_step: Callable[[Step], None] | None = None,
        on_sample: Callable[[int, str], None] | None = None,
        on_finding: Callable[[Finding], None] | None = None,
    ) -> None:
        self.job, self.folder, self.world = job, folder, job.world
        self.on_step, self.on_sample, self.on_finding = on_step, on_sample, on_finding
        self.checkpoints = folder.checkpoints_path
        self._tensorboard: TensorBoardWriter | None = None
        self._input_findings: list[Finding] = []
        self.progress: Progress
        self.checks: CurveChecks

    def start(self, unfinished: bool) -> None:
        """Initialize the run, or restore the last intact checkpoint.

        Raises:
            UserError: There are checkpoints, but none is intact.
        """
        found = self._latest() if unfinished else None
        if found is None and self._any_checkpoints():
            raise UserError(
                "All checkpoints of this run are damaged. Restore one from a copy, remove them to "
                "start again, or use another folder.",
                where=self.checkpoints,
                settings={"out": f"{self.folder.path}-2"},
            )
        if self.world.is_first:
            self.folder.remove_left_over()
            self.folder.failure.unlink(missing_ok=True)
        if self.job.warm_up is not None:
            self.job.warm_up()
        if found is None:
            self._initialize()
        else:
            self._restore(found)

    def train(self) -> None:
        """Run the remaining optimizer steps.

        Raises:
            DivergedError: The loss is NaN or infinite, and rolling back did not help.
            KeyboardInterrupt: After Ctrl-C or SIGTERM, when a checkpoint is written.
        """
        world, keep = self.world, self.job.keep_checkpoints
        if world.is_first and self.progress.step == 0:
            for finding in (*self._input_findings, *self.checks.start()):
                self._report(finding)
        with (
            self._tensorboard_open(),
            stop_between_steps() as stop,
            CheckpointWriter(self.checkpoints, keep_last=keep, world=world) as writer,
        ):
            while not self._is_over():
                try:
                    self._run_steps(writer, stop)
                except DivergedError as error:
                    self._roll_back(writer, error)

    def _is_over(self) -> bool:
        step = self.progress.step
        elapsed_s = self.world.of_first(self.progress.elapsed_s)
        return self._schedule().expected_steps(step, elapsed_s) <= step

    def _schedule(self) -> Schedule | ClockSchedule:
        """The schedule, scaled down by each rollback; under a budget it follows the clock."""
        schedule = self.job.schedule
        peak_frac = 1.0 / ROLLBACK_DIVISOR ** len(self.progress.rollbacks)
        if self.progress.steps_s is None:
            return replace(schedule, peak_frac=peak_frac)
        warmup_frac = self.job.warmup_frac
        return ClockSchedule(
            seconds=self.progress.steps_s,
            most_steps=self.job.most_steps,
            warmup_steps=0 if warmup_frac else schedule.warmup_steps,
            warmup_s=warmup_frac * self.progress.steps_s,
            decay_frac=schedule.decay_frac,
            decay=schedule.decay,
            peak_frac=peak_frac,
            final_frac=schedule.final_frac,
        )

    def _initialize(self) -> None:
        job = self.job
        if self.world.is_first:
            if job.write_inputs is not None:
                job.write_inputs()
            drop_metrics_after(self.folder, 0)
            if job.check_inputs is not None:  # before the time for steps begins
                self._input_findings = list(job.check_inputs())
        before = time.monotonic()
        first_loss_nats = None if job.first_validation is None else job.first_validation()
        validation_s = time.monotonic() - before
        self.progress = Progress(
            step=0,
            n_targets=0,
            elapsed_s=0.0,
            loader=job.loader.state_dict(),
            tokenizer_fingerprint=job.tokenizer_fingerprint,
            identity=job.identity,
            first_validation_loss_nats=first_loss_nats,
            steps_s=None if job.time_for_steps is None else job.time_for_steps(validation_s),
        )
        self.checks = self._new_checks()

    def _restore(self, checkpoint: Path) -> None:
        job = self.job
        self.progress = load_checkpoint(
            checkpoint,
            job.model,
            job.optimizer,
            tokenizer_fingerprint=job.tokenizer_fingerprint,
            identity=job.identity,
        )
        best = self.progress.best_step
        if best is not None and not (self.checkpoints / step_name(best)).is_dir():
            _log.warning(
                "The best checkpoint, of step %d, is missing; the next best one replaces it.", best
            )
            self.progress = replace(self.progress, best_step=None, best_loss_nats=None)
        try:
            job.loader.load_state_dict(self.progress.loader)
        except UserError as error:
            raise UserError(
                "The text has changed since this checkpoint was written, so the next batches would "
                "be others. The same text is expected, or another folder for a new run.",
                where=checkpoint,
                settings={"out": f"{self.folder.path}-2"},
            ) from error
        if self.world.is_first:
            point_to(self.checkpoints, self.progress)
            drop_metrics_after(self.folder, self.progress.step)
        _log.info("Resuming from %s.", checkpoint)
        self.checks = self._new_checks()
        for row in read_metrics(self.folder):
            list(self.checks.check(row))  # what was reported then is not reported again

    def _new_checks(self) -> CurveChecks:
        return CurveChecks(
            uniform_nats=self.job.uniform_nats,
            learning_rate=self.job.optimizer.learning_rate,
            first_validation_loss_nats=self.progress.first_validation_loss_nats,
        )

    def _run_steps(self, checkpoints: CheckpointWriter, stop: StopRequest) -> None:
        job, schedule = self.job, self._schedule()

        def pause(step: int) -> bool:
            samples = job.sample_every is not None and step % job.sample_every == 0
            return samples or step % job.checkpoint_every == 0 or self.world.any(stop.asked)

        for step in train_steps(
            job.loader,
            job.loss,
            job.optimizer,
            schedule,
            first_step=self.progress.step + 1,
            n_targets=self.progress.n_targets,
            elapsed_s=self.progress.elapsed_s,
            grad_accumulation_steps=job.grad_accumulation_steps,
            max_grad_norm=job.max_grad_norm,
            validate=job.validate,
            validate_every=job.validate_every,
            pause=pause,
            count=job.count,
            world=self.world,
            read_late=job.read_late,
        ):
            self.progress = _advance(self.progress, job, step)
            last = step.step == step.n_steps
            due = last or step.step % job.checkpoint_every == 0
            due = due or self.progress.best_step == step.step
            ends_early = not last and self._overfits(step)
            if ends_early:
                self._end_early(step)
                due = True
            # Metrics and sample first: resuming repeats them, but cannot restore missing ones.
            if self.world.is_first:
                self._log(step)
            if step.next_has_begun:
                continue  # nothing is due, and the weights are not those of this step
            if job.sample_every is not None and (last or step.step % job.sample_every == 0):
                self._sample(step.step)
            if due:
                self._save(checkpoints, step.learning_rate, schedule.peak_frac)
            # Also after the last step: the next start then only has to finish the run.
            if self.world.any(stop.asked):
                if not due:
                    self._save(checkpoints, step.learning_rate, schedule.peak_frac)
                _log.info("Interrupted after step %d; a checkpoint is written.", step.step)
                raise KeyboardInterrupt
            if ends_early:
                return  # the next steps follow the shorter schedule

    def _overfits(self, step: Step) -> bool:
        """Whether the validation loss of a run that may end early has risen."""
        loss, best = step.validation_loss_nats, self.progress.best_loss_nats
        if not self.job.may_end_early or self.progress.early_end_step is not None:
            return False
        return loss is not None and best is not None and loss > WORSE * best

    def _end_early(self, step: Step) -> None:
        """Shorten the time for steps, so that the learning rate decays to zero soon."""
        assert self.progress.steps_s is not None
        elapsed_s = self.world.of_first(step.elapsed_s)
        steps_s = min(self.progress.steps_s, (1.0 + _LAST_DECAY_FRAC) * elapsed_s)
        self.progress = replace(self.progress, steps_s=steps_s, early_end_step=step.step)
        _log.info("The validation loss has risen at step %d: the last decay begins.", step.step)

    def _log(self, step: Step) -> None:
        row = log_metrics(self.folder, step)
        self._to_tensorboard(lambda board: board.add(row))
        if self.on_step is not None:
            self.on_step(step)
        for finding in self.checks.check(row):
            self._report(finding)

    def _save(self, checkpoints: CheckpointWriter, rate: float, peak_frac: float) -> None:
        job = self.job
        if self.world.any(not job.optimizer.weights_are_finite()):
            raise diverged(self.progress.step, job.optimizer, rate, peak_frac)
        checkpoints.save(job.model, job.optimizer, self.progress)

    def _roll_back(self, checkpoints: CheckpointWriter, error: DivergedError) -> None:
        """Restore the last checkpoint and continue at lower learning rates.

        The same rates would diverge again. Before the first checkpoint, or after several rollbacks,
        the settings themselves are wrong, and the error names settings that help.
        """
        checkpoints.wait()
        intact = self._latest()
        rollbacks = (*self.progress.rollbacks, error.step)
        if intact is None or len(rollbacks) > _MOST_ROLLBACKS:
            if self.world.is_first:
                _log.info("%s", error)
                write_json(self.folder.failure, {"seen": error.message})
            raise error
        elapsed_s = self.progress.elapsed_s
        self._restore(intact)
        self.progress = replace(self.progress, rollbacks=rollbacks, elapsed_s=elapsed_s)
        self._to_tensorboard(lambda board: board.go_back(self.progress.step))
        if self.world.is_first:
            # Immediately, so that a resumed run continues at these rates, too.
            write_progress(intact, self.progress)
            self._report(rolled_back(error.step, len(rollbacks)))

    def _any_checkpoints(self) -> bool:
        return self.world.any(bool(list_checkpoints(self.checkpoints)))

    def _latest(self) -> Path | None:
        return self.world.from_first(lambda: find_latest(self.checkpoints))

    @contextmanager
    def _tensorboard_open(self) -> Iterator[None]:
        if self.job.tensorboard and self.world.is_first:
            folder = self.folder.path / "tensorboard"
            self._tensorboard = TensorBoardWriter(folder, self.progress.step)
        try:
            yield
        finally:
            self._to_tensorboard(lambda board: board.close())

    def _to_tensorboard(self, write: Callable[[TensorBoardWriter], None]) -> None:
        """Write to TensorBoard, if it is open; after an error, nothing more is written."""
        board, self._tensorboard = self._tensorboard, None
        if board is not None:
            with going_on("The rest of the TensorBoard log"):
                write(board)
                self._tensorboard = board

    def _report(self, finding: Finding) -> None:
        if self.on_finding is None:
            _log.warning("%s", finding)
        else:
            _log.info("%s", finding)
            self.on_finding(finding)

    def _sample(self, step: int) -> None:
        if self.job.sample is None:
            return
        with going_on(f"The sample of step {step}"), self.world.usable(self.job.model):
            text = self.job.sample()  # in all processes, because each may hold a shard
            if self.world.is_first:
                if self.on_sample is not None:
                    self.on_sample(step, text)
                write_text(self.folder.samples / f"step-{step:06d}.txt", text + "\n")


def _advance(progress: Progress, job: Job, step: Step) -> Progress:
    """Return the state of the run after this step."""
    loss = step.validation_loss_nats
    best_step, best_loss = progress.best_step, progress.best_loss_nats
    if loss is not None and (best_loss is None or loss < best_loss):
        best_step, best_loss = step.step, loss
    return replace(
        progress,
        step=step.step,
        n_targets=step.n_targets,
        elapsed_s=step.elapsed_s,
        loader=job.loader.state_dict(),
        best_step=best_step,
        best_loss_nats=best_loss,
    )
