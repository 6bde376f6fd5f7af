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
from groundup.base.run import RunFolder
from groundup.planning.budget import duration_s
from groundup.planning.memory import checkpoint_bytes
from groundup.pretraining.checkpoint import (
    CheckpointWriter,
    Progress,
    find_latest,
    load_checkpoint,
    point_to,
    write_progress,
)
from groundup.pretraining.curve_checks import ROLLBACK_DIVISOR, CurveChecks, Finding, rolled_back
from groundup.pretraining.data_checks import check_data
from groundup.pretraining.interrupt import StopRequest, stop_between_steps
from groundup.pretraining.metrics import drop_metrics_after, read_metrics
from groundup.pretraining.report import log_metrics
from groundup.pretraining.samples import going_on, write_sample
from groundup.pretraining.tensorboard import TensorBoardWriter
from groundup.train.build import Setup
from groundup.train.loop import DivergedError, Step, diverged, train_steps
from groundup.train.schedule import ClockSchedule, Schedule

_log = logging.getLogger(__name__)
_MOST_ROLLBACKS = 3
_AFTER_S, _DISK_BYTES_PER_S = 1.5, 2e8
"""Time after the last step, for plots, pages and a checkpoint; disk throughput."""
_SEARCHED_TOKENS = 20_000_000
"""A start searches this much training text for validation passages; doctor searches all of it."""


class Trainer:
    """Train a run from its first step, or its last checkpoint, to its end.

    Args:
        setup: Model, optimizer, data and settings.
        folder: The run folder.
        on_step: Called with each finished step.
        on_sample: Called with the step and a text that the model generated.
        on_finding: Called when a check fails; log.txt records it, too.
        started_at: When the budget started, by `time.monotonic()`.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        on_step: Callable[[Step], None] | None,
        on_sample: Callable[[int, str], None] | None,
        on_finding: Callable[[Finding], None] | None,
        started_at: float,
    ) -> None:
        self.started_at = started_at
        self.setup, self.folder, self.config = setup, folder, setup.config
        self.on_step, self.on_sample, self.on_finding = on_step, on_sample, on_finding
        self.checkpoints = folder.checkpoints_path
        self._tensorboard: TensorBoardWriter | None = None
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
        if self.setup.world.is_first:
            self.folder.failure.unlink(missing_ok=True)
        if self.config.hardware.compile and self.config.budget is not None:
            self.setup.compile_now()  # otherwise the first step compiles, on the budget
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
        world, keep = self.setup.world, self.config.checkpoints.keep_checkpoints
        if world.is_first:
            for finding in self._initial_findings():
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
        elapsed_s = self.setup.world.of_first(self.progress.elapsed_s)
        return self._schedule().expected_steps(step, elapsed_s) <= step

    def _schedule(self) -> Schedule | ClockSchedule:
        """The schedule, scaled down by each rollback; under a budget it follows the clock."""
        schedule = self.setup.schedule
        peak_frac = 1.0 / ROLLBACK_DIVISOR ** len(self.progress.rollbacks)
        if self.progress.steps_s is None:
            return replace(schedule, peak_frac=peak_frac)
        return ClockSchedule(
            seconds=self.progress.steps_s,
            warmup_steps=schedule.warmup_steps,
            decay_frac=schedule.decay_frac,
            decay=schedule.decay,
            peak_frac=peak_frac,
            final_frac=schedule.final_frac,
        )

    def _time_for_steps(self, window_s: float) -> float:
        """Return the seconds of the budget for steps; the last validation comes after them."""
        assert self.config.budget is not None
        spent_s = time.monotonic() - self.started_at
        after_s = _AFTER_S + checkpoint_bytes(self.config) / _DISK_BYTES_PER_S
        after_s += window_s * self.config.validation.validation_windows
        budget_s = duration_s(self.config.budget)
        left_s = budget_s - spent_s - after_s
        if left_s < budget_s / 2:
            _log.warning(
                "Of the budget of %g s, starting and choosing took %.0f s, and %.0f s are reserved "
                "for the end.",
                budget_s,
                spent_s,
                after_s,
            )
        return self.setup.world.of_first(max(1.0, left_s))

    def _initialize(self) -> None:
        if self.setup.world.is_first:
            self.folder.write_config(self.config)
            self.setup.data.tokenizer.save(self.folder.tokenizer)
            drop_metrics_after(self.folder, 0)
        before = time.monotonic()
        first_loss_nats = self.setup.validate(self.config.batch_size)
        window_s = (time.monotonic() - before) / self.config.batch_size
        self.progress = Progress(
            step=0,
            n_targets=0,
            elapsed_s=0.0,
            loader=self.setup.loader.state_dict(),
            tokenizer_fingerprint=self.setup.data.tokenizer.fingerprint,
            first_validation_loss_nats=first_loss_nats,
            steps_s=None if self.config.budget is None else self._time_for_steps(window_s),
        )
        self.checks = self._new_checks()

    def _restore(self, checkpoint: Path) -> None:
        setup = self.setup
        self.progress = load_checkpoint(
            checkpoint,
            setup.model,
            setup.optimizer,
            tokenizer_fingerprint=setup.data.tokenizer.fingerprint,
        )
        best = self.progress.best_step
        if best is not None and not (self.checkpoints / step_name(best)).is_dir():
            _log.warning(
                "The best checkpoint, of step %d, is missing; the next best one replaces it.", best
            )
            self.progress = replace(self.progress, best_step=None, best_loss_nats=None)
        setup.loader.load_state_dict(self.progress.loader)
        if setup.world.is_first:
            point_to(self.checkpoints, self.progress)
            drop_metrics_after(self.folder, self.progress.step)
        _log.info("Resuming from %s.", checkpoint)
        self.checks = self._new_checks()
        for row in read_metrics(self.folder):
            list(self.checks.check(row))  # what was reported then is not reported again

    def _new_checks(self) -> CurveChecks:
        return CurveChecks(
            vocab_size=self.config.model.vocab_size,
            learning_rate=self.config.optimizer.learning_rate,
            first_validation_loss_nats=self.progress.first_validation_loss_nats,
        )

    def _initial_findings(self) -> Iterator[Finding]:
        setup = self.setup
        if self.progress.step == 0:
            yield from check_data(
                setup.data,
                setup.loader,
                steps=self.config.steps,
                max_train_tokens=_SEARCHED_TOKENS,
            )
            yield from self.checks.start()

    def _run_steps(self, checkpoints: CheckpointWriter, stop: StopRequest) -> None:
        setup, config = self.setup, self.config
        schedule, sample_every = self._schedule(), config.samples.sample_every
        for step in train_steps(
            setup.loader,
            setup.training_loss,
            setup.optimizer,
            schedule,
            first_step=self.progress.step + 1,
            n_targets=self.progress.n_targets,
            elapsed_s=self.progress.elapsed_s,
            grad_accumulation_steps=config.hardware.grad_accumulation_steps,
            max_grad_norm=config.optimizer.max_grad_norm,
            validate=setup.validate,
            validate_every=config.validation.validate_every,
            world=setup.world,
        ):
            self.progress = _advance(self.progress, setup, step)
            last = step.step == step.n_steps
            due = last or step.step % config.checkpoints.checkpoint_every == 0
            due = due or self.progress.best_step == step.step
            # Metrics first: resuming drops surplus lines, but cannot restore missing ones.
            if setup.world.is_first:
                self._log(step)
            if due:
                self._save(checkpoints, step.learning_rate, schedule.peak_frac)
            if sample_every is not None and (last or step.step % sample_every == 0):
                self._sample(step.step)
            # Also after the last step: the next start then only has to finish the run.
            if setup.world.any(stop.asked):
                if not due:
                    self._save(checkpoints, step.learning_rate, schedule.peak_frac)
                _log.info("Interrupted after step %d; a checkpoint is written.", step.step)
                raise KeyboardInterrupt

    def _log(self, step: Step) -> None:
        row = log_metrics(self.folder, step)
        self._to_tensorboard(lambda board: board.add(row))
        if self.on_step is not None:
            self.on_step(step)
        for finding in self.checks.check(row):
            self._report(finding)

    def _save(self, checkpoints: CheckpointWriter, rate: float, peak_frac: float) -> None:
        setup = self.setup
        if setup.world.any(not setup.optimizer.weights_are_finite()):
            raise diverged(self.progress.step, setup.optimizer, rate, peak_frac)
        checkpoints.save(setup.model, setup.optimizer, self.progress)

    def _roll_back(self, checkpoints: CheckpointWriter, error: DivergedError) -> None:
        """Restore the last checkpoint and continue at lower learning rates.

        The same rates would diverge again. Before the first checkpoint, or after several rollbacks,
        the settings themselves are wrong, and the error names settings that help.
        """
        checkpoints.wait()
        intact = self._latest()
        rollbacks = (*self.progress.rollbacks, error.step)
        if intact is None or len(rollbacks) > _MOST_ROLLBACKS:
            if self.setup.world.is_first:
                _log.info("%s", error)
                write_json(self.folder.failure, {"seen": error.message})
            raise error
        elapsed_s = self.progress.elapsed_s
        self._restore(intact)
        self.progress = replace(self.progress, rollbacks=rollbacks, elapsed_s=elapsed_s)
        self._to_tensorboard(lambda board: board.go_back(self.progress.step))
        if self.setup.world.is_first:
            # Immediately, so that a resumed run continues at these rates, too.
            write_progress(intact, self.progress)
            self._report(rolled_back(error.step, len(rollbacks)))

    def _any_checkpoints(self) -> bool:
        return self.setup.world.any(bool(list_checkpoints(self.checkpoints)))

    def _latest(self) -> Path | None:
        return self.setup.world.from_first(lambda: find_latest(self.checkpoints))

    @contextmanager
    def _tensorboard_open(self) -> Iterator[None]:
        if self.config.tensorboard and self.setup.world.is_first:
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
        with going_on(f"The sample of step {step}"), self.setup.world.usable(self.setup.model):
            text = write_sample(self.setup)  # in all processes, because each may hold a shard
            if self.setup.world.is_first:
                if self.on_sample is not None:
                    self.on_sample(step, text)
                write_text(self.folder.samples / f"step-{step:06d}.txt", text + "\n")


def _advance(progress: Progress, setup: Setup, step: Step) -> Progress:
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
        loader=setup.loader.state_dict(),
        best_step=best_step,
        best_loss_nats=best_loss,
    )
