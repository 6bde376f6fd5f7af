"""The training job of a pretraining run: what its data and its settings tell the trainer."""

import logging
import math
import time
from functools import partial

from groundup.base.run import RunFolder
from groundup.planning.budget import duration_s, most_steps
from groundup.planning.memory import checkpoint_bytes
from groundup.pretraining.data_checks import check_data
from groundup.pretraining.samples import write_sample
from groundup.train.build import Setup, validation_sets
from groundup.train.job import Job

_log = logging.getLogger(__name__)
_AFTER_S, _DISK_BYTES_PER_S = 1.5, 2e8
"""Time after the last step, for plots, pages and a checkpoint; disk throughput."""
_SEARCHED_TOKENS = 20_000_000
"""A start searches this much training text for validation passages; doctor searches all of it."""


def pretraining_job(setup: Setup, run: RunFolder, started_at: float) -> Job:
    """Describe a run to the trainer.

    Args:
        setup: Model, optimizer, data and settings.
        run: The run folder.
        started_at: When the budget started, by `time.monotonic()`.
    """
    config, data = setup.config, setup.data

    def write_inputs() -> None:
        run.write_config(config)
        data.tokenizer.save(run.tokenizer)

    def time_for_steps(validation_s: float) -> float:
        """Return the seconds of the budget for steps; the last validation comes after them."""
        assert config.budget is not None
        spent_s = time.monotonic() - started_at
        after_s = _AFTER_S + checkpoint_bytes(config) / _DISK_BYTES_PER_S
        n_windows = sum(map(len, validation_sets(config, data)))
        window_s = validation_s / min(config.batch_size, n_windows)
        after_s += window_s * min(config.validation.validation_windows, n_windows)
        budget_s = duration_s(config.budget)
        left_s = budget_s - spent_s - after_s
        if left_s < budget_s / 2:
            _log.warning(
                "Of the budget of %g s, starting and choosing took %.0f s, and %.0f s are reserved "
                "for the end.",
                budget_s,
                spent_s,
                after_s,
            )
        return setup.world.of_first(max(1.0, left_s))

    # Without a budget the first step compiles; under a budget that would be on its time.
    compiles = config.hardware.compile == "on" and config.budget is not None
    return Job(
        model=setup.model,
        optimizer=setup.optimizer,
        schedule=setup.schedule,
        loader=setup.batches,
        loss=setup.training_loss,
        validate=setup.validate,
        first_validation=partial(setup.validate, config.batch_size),
        validate_every=config.validation.validate_every,
        checkpoint_every=config.checkpoints.checkpoint_every,
        keep_checkpoints=config.checkpoints.keep_checkpoints,
        sample=lambda: write_sample(setup),
        sample_every=config.samples.sample_every,
        grad_accumulation_steps=config.hardware.grad_accumulation_steps,
        max_grad_norm=config.optimizer.max_grad_norm,
        read_late=None,
        tensorboard=config.tensorboard,
        tokenizer_fingerprint=data.tokenizer.fingerprint,
        uniform_nats=math.log(config.model.vocab_size),
        write_inputs=write_inputs,
        warm_up=setup.compile_now if compiles else None,
        check_inputs=lambda: check_data(
            data,
            setup.loader,
            steps=config.steps if config.budget is None else None,
            max_train_tokens=_SEARCHED_TOKENS,
        ),
        time_for_steps=None if config.budget is None else time_for_steps,
        most_steps=None if config.budget is None else most_steps(config, data.n_tokens_per_pass),
        may_end_early=config.budget is not None,
        world=setup.world,
    )
