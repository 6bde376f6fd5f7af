"""A run under way: each step written down, watched, saved in time; and back when it diverged."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from groundup.base.checkpoints import list_checkpoints, step_name
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_json, write_text
from groundup.base.run import RunFolder
from groundup.generation.engine import generate
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
from groundup.pretraining.curve_checks import ROLLBACK_DIVISOR, Finding, Watch, rolled_back
from groundup.pretraining.data_checks import check_data
from groundup.pretraining.interrupt import StopRequest, stop_between_steps
from groundup.pretraining.metrics import drop_metrics_after, read_metrics
from groundup.pretraining.report import log_metrics
from groundup.pretraining.tensorboard import Board
from groundup.train.build import Setup
from groundup.train.loop import DivergedError, Step, diverged, train_steps
from groundup.train.schedule import ClockSchedule, Schedule

_log = logging.getLogger(__name__)
_MOST_ROLLBACKS = 3
_AFTER_S, _DISK_BYTES_PER_S = 1.5, 2e8
"""What comes after the last step: the curves, the pages, a checkpoint."""
_SEARCHED_TOKENS = 20_000_000
"""So far a start looks for held-out passages in the training text: a second; doctor takes all."""


class Session:
    """A run from its first step, or its last checkpoint, to its end.

    Args:
        setup: What the run is made of.
        folder: Its run folder.
        on_step: Called after each step, with what it did.
        on_sample: Called with the step and a text the model wrote.
        on_finding: Called when the watch sees something wrong; it is in log.txt, too.
        began_at: When the budget began, by `time.monotonic()`.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        on_step: Callable[[Step], None] | None,
        on_sample: Callable[[int, str], None] | None,
        on_finding: Callable[[Finding], None] | None,
        began_at: float,
    ) -> None:
        self.began_at = began_at
        self.setup, self.folder, self.config = setup, folder, setup.config
        self.on_step, self.on_sample, self.on_finding = on_step, on_sample, on_finding
        self.checkpoints = folder.checkpoints_path
        self._board: Board | None = None
        self.progress: Progress
        self.watch: Watch

    def start(self, unfinished: bool) -> None:
        """Stand where the first step is to be made: anew, or after the last whole checkpoint.

        Raises:
            UserError: There are checkpoints, and none is whole.
        """
        found = self._latest() if unfinished else None
        if found is None and self._any_checkpoints():
            raise UserError(
                "no checkpoint of this run can be read, and it is not begun anew over them",
                need="a whole one put back, another folder, or the damaged ones out of the way",
                where=self.checkpoints,
                type_this=f"--out {quoted(f'{self.folder.path}-anew')}",
            )
        if self.setup.world.is_first:
            self.folder.failure.unlink(missing_ok=True)
        if self.config.compile and self.config.budget is not None:
            self.setup.compile_now()  # before the clock of the budget starts; else the first step
        if found is None:
            self._begin()
        else:
            self._go_on_from(found)

    def train(self) -> None:
        """Make all steps that are left.

        Raises:
            DivergedError: The run is no number, and going back does not help.
            KeyboardInterrupt: After Ctrl-C or SIGTERM, with a checkpoint written.
        """
        world, keep = self.setup.world, self.config.keep_checkpoints
        if world.is_first:
            for finding in self._findings_before_the_start():
                self._tell(finding)
        with (
            self._board_open(),
            stop_between_steps() as stop,
            CheckpointWriter(self.checkpoints, keep_last=keep, world=world) as to,
        ):
            while not self._is_over():
                try:
                    self._make_steps(to, stop)
                except DivergedError as error:
                    self._roll_back(to, error)

    def _is_over(self) -> bool:
        step = self.progress.step
        elapsed_s = self.setup.world.of_first(self.progress.elapsed_s)
        return self._schedule().expected_steps(step, elapsed_s) <= step

    def _schedule(self) -> Schedule | ClockSchedule:
        """The schedule, lower by each rollback, and under a budget by the clock."""
        schedule = self.setup.schedule
        peak_frac = 1.0 / ROLLBACK_DIVISOR ** len(self.progress.rollbacks)
        if self.progress.steps_s is None:
            return replace(schedule, peak_frac=peak_frac)
        return ClockSchedule(
            seconds=self.progress.steps_s, warmup_steps=schedule.warmup_steps, peak_frac=peak_frac
        )

    def _time_for_steps(self, window_s: float) -> float:
        """Seconds of the budget that are left for steps: the last look at the text comes after."""
        assert self.config.budget is not None
        spent_s = time.monotonic() - self.began_at
        after_s = _AFTER_S + checkpoint_bytes(self.config) / _DISK_BYTES_PER_S
        after_s += window_s * self.config.validation_windows
        budget_s = duration_s(self.config.budget)
        left_s = budget_s - spent_s - after_s
        if left_s < budget_s / 2:
            _log.warning(
                "of %g s starting and choosing took %.0f and %.0f are kept for the end",
                budget_s,
                spent_s,
                after_s,
            )
        return self.setup.world.of_first(max(1.0, left_s))

    def _begin(self) -> None:
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
        self.watch = self._new_watch()

    def _go_on_from(self, checkpoint: Path) -> None:
        setup = self.setup
        self.progress = load_checkpoint(
            checkpoint,
            setup.model,
            setup.optimizer,
            tokenizer_fingerprint=setup.data.tokenizer.fingerprint,
        )
        best = self.progress.best_step
        if best is not None and not (self.checkpoints / step_name(best)).is_dir():
            _log.warning("the best checkpoint, of step %d, is gone; the next best counts", best)
            self.progress = replace(self.progress, best_step=None, best_loss_nats=None)
        setup.loader.load_state_dict(self.progress.loader)
        if setup.world.is_first:
            point_to(self.checkpoints, self.progress)
            drop_metrics_after(self.folder, self.progress.step)
        _log.info("going on from %s", checkpoint)
        self.watch = self._new_watch()
        for row in read_metrics(self.folder):
            list(self.watch.look(row))  # what was said then is not said again

    def _new_watch(self) -> Watch:
        return Watch(
            vocab_size=self.config.model.vocab_size,
            learning_rate=self.config.learning_rate,
            first_validation_loss_nats=self.progress.first_validation_loss_nats,
        )

    def _findings_before_the_start(self) -> Iterator[Finding]:
        setup = self.setup
        if self.progress.step == 0:
            yield from check_data(
                setup.data,
                setup.loader,
                steps=self.config.steps,
                max_train_tokens=_SEARCHED_TOKENS,
            )
            yield from self.watch.start()

    def _make_steps(self, checkpoints: CheckpointWriter, stop: StopRequest) -> None:
        setup, config = self.setup, self.config
        schedule = self._schedule()
        for step in train_steps(
            setup.loader,
            setup.training_loss,
            setup.optimizer,
            schedule,
            first_step=self.progress.step + 1,
            n_targets=self.progress.n_targets,
            elapsed_s=self.progress.elapsed_s,
            n_micro_batches=config.n_micro_batches,
            max_grad_norm=config.max_grad_norm,
            validate=setup.validate,
            validate_every=config.validate_every,
            world=setup.world,
        ):
            self.progress = _advance(self.progress, setup, step)
            last = step.step == step.n_steps
            due = last or step.step % config.checkpoint_every == 0
            due = due or self.progress.best_step == step.step
            # In this order: a line too many is forgotten on resume, one too few could not be made.
            if setup.world.is_first:
                self._write_down(step)
            if due:
                self._save(checkpoints, step.lr, schedule.peak_frac)
            if config.sample_every and (last or step.step % config.sample_every == 0):
                self._sample(step.step)
            # After the last step too: the next start then only finishes the run.
            if setup.world.any(stop.asked):
                if not due:
                    self._save(checkpoints, step.lr, schedule.peak_frac)
                _log.info("stopped after step %d, with a checkpoint", step.step)
                raise KeyboardInterrupt

    def _write_down(self, step: Step) -> None:
        row = log_metrics(self.folder, step)
        if self._board is not None:
            self._board.add(row)
        if self.on_step is not None:
            self.on_step(step)
        for finding in self.watch.look(row):
            self._tell(finding)

    def _save(self, checkpoints: CheckpointWriter, rate: float, peak_frac: float) -> None:
        setup = self.setup
        if setup.world.any(not setup.optimizer.weights_are_finite()):
            raise diverged(self.progress.step, setup.optimizer, rate, peak_frac)
        checkpoints.save(setup.model, setup.optimizer, self.progress)

    def _roll_back(self, checkpoints: CheckpointWriter, error: DivergedError) -> None:
        """Go back to the last checkpoint, and on at lower rates.

        The same rates would lead to the same end. Before the first checkpoint, and after several
        falls, the settings themselves are wrong, and the error says what to type.
        """
        checkpoints.wait()
        good = self._latest()
        rollbacks = (*self.progress.rollbacks, error.step)
        if good is None or len(rollbacks) > _MOST_ROLLBACKS:
            if self.setup.world.is_first:
                _log.info("%s", error)
                write_json(self.folder.failure, {"seen": error.message})
            raise error
        elapsed_s = self.progress.elapsed_s
        self._go_on_from(good)
        self.progress = replace(self.progress, rollbacks=rollbacks, elapsed_s=elapsed_s)
        if self._board is not None:
            self._board.go_back(self.progress.step)
        if self.setup.world.is_first:
            # At once: whoever takes the run up again goes on at these rates.
            write_progress(good, self.progress)
            self._tell(rolled_back(error.step, len(rollbacks)))

    def _any_checkpoints(self) -> bool:
        return self.setup.world.any(bool(list_checkpoints(self.checkpoints)))

    def _latest(self) -> Path | None:
        return self.setup.world.from_first(lambda: find_latest(self.checkpoints))

    @contextmanager
    def _board_open(self) -> Iterator[None]:
        if not (self.config.tensorboard and self.setup.world.is_first):
            yield
            return
        self._board = Board(self.folder.path / "tensorboard", self.progress.step)
        try:
            yield
        finally:
            self._board.close()

    def _tell(self, finding: Finding) -> None:
        if self.on_finding is None:
            _log.warning("%s", finding)
        else:
            _log.info("%s", finding)
            self.on_finding(finding)

    def _sample(self, step: int) -> None:
        with self.setup.world.usable(self.setup.model):
            text = write_sample(self.setup)  # by all processes, for each may hold a part
        if not self.setup.world.is_first:
            return
        write_text(self.folder.samples / f"step-{step:06d}.txt", text + "\n")
        if self.on_sample is not None:
            self.on_sample(step, text)


def write_sample(setup: Setup) -> str:
    """Let the model continue the prompt; the text includes the prompt."""
    tokenizer, config = setup.data.tokenizer, setup.config
    ids = tokenizer.encode(config.prompt)
    if not ids:
        start = setup.data.validation.read(0, min(12, setup.data.validation.n_tokens))
        ids = [int(index) for index in start]
    new = generate(
        setup.model,
        ids,
        config.sample_tokens,
        temperature=0.8,
        top_k=50,
        stop_ids=tuple(tokenizer.special_tokens.values()),
        seed=config.seed,
    )
    return tokenizer.decode([*ids, *new])


def _advance(progress: Progress, setup: Setup, step: Step) -> Progress:
    """Where the run stands after this step."""
    loss = step.validation_loss_nats
    best_step, best_loss = progress.best_step, progress.best_loss_nats
    if loss is not None and (best_loss is None or loss < best_loss):
        best_step, best_loss = step.step, loss
    return Progress(
        step=step.step,
        n_targets=step.n_targets,
        elapsed_s=step.elapsed_s,
        loader=setup.loader.state_dict(),
        tokenizer_fingerprint=progress.tokenizer_fingerprint,
        first_validation_loss_nats=progress.first_validation_loss_nats,
        steps_s=progress.steps_s,
        best_step=best_step,
        best_loss_nats=best_loss,
        rollbacks=progress.rollbacks,
    )
