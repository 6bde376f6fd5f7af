"""Pretraining: from a data folder to a run folder with a trained model.

The same command on an unfinished run resumes from its last checkpoint and ends with bit-identical
weights.
"""

import math
import os
import time
from collections.abc import Callable, Set
from contextlib import ExitStack

from groundup.base.calling import takes_settings
from groundup.base.checkpoints import step_name
from groundup.base.environment import now
from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.base.files import write_text
from groundup.base.machine import peak_memory_bytes
from groundup.base.optional import going_on
from groundup.base.results import record_result
from groundup.base.run import RunFolder, check_name
from groundup.model.count import count_parameters
from groundup.planning.budget import choose, duration_s
from groundup.planning.compilation import with_compilation
from groundup.planning.fitting import check_memory, with_segments
from groundup.planning.memory import check_disk
from groundup.planning.text_use import TextUse
from groundup.pretraining.job import pretraining_job
from groundup.pretraining.report import PretrainResult, describe, run_readme
from groundup.pretraining.run_lookup import chosen_before, settled_before
from groundup.pretraining.samples import encode_prompt
from groundup.train.build import Setup, prepare_training, validation_sets
from groundup.train.checkpoint_state import Progress, weights_sha256
from groundup.train.config import PretrainConfig
from groundup.train.curve_checks import Finding
from groundup.train.data import Data, open_texts, training_windows, with_vocabulary
from groundup.train.metrics import read_metrics
from groundup.train.run_lookup import open_run
from groundup.train.step import Step
from groundup.train.trainer import Trainer

_SURE_BY = 1.3
"""A run that is estimated to take this many times the free memory is refused at the start."""


@takes_settings(PretrainConfig, "data")
def pretrain(
    config: PretrainConfig,
    on_step: Callable[[Step], None] | None = None,
    on_sample: Callable[[int, str], None] | None = None,
    on_finding: Callable[[Finding], None] | None = None,
    on_choice: Callable[[PretrainConfig], None] | None = None,
    started_at: float | None = None,
    given: Set[str] = frozenset(),
) -> PretrainResult:
    """Train a model and write a run folder.

    Args:
        config: The settings.
        on_step: Called with each finished step.
        on_sample: Called with the step and a text that the model generated.
        on_finding: Called when a check fails; log.txt records it, too.
        on_choice: Called with the settings that a budget chose, before the first step.
        started_at: When the budget started, by `time.monotonic()`. None: now.
        given: Flat names of the settings that a budget must not choose, besides those that differ
            from their defaults.

    Raises:
        UserError: There is no data, the text is shorter than the context, the run diverged, or the
            disk is full.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when a checkpoint is written.
    """
    started_at = time.monotonic() if started_at is None else started_at
    data = open_texts(config.texts)
    _check_late_settings(config, data)
    if config.budget is not None:
        config = chosen_before(config, given) or choose(
            config, data, duration_s(config.budget), given
        )
        if on_choice is not None:
            on_choice(config)
    config = (
        settled_before(config, data)
        or with_compilation(with_segments(with_vocabulary(config, data)))[0]
    )
    check_memory(with_vocabulary(config, data), margin=_SURE_BY)
    check_disk(with_vocabulary(config, data), whole_run=False)
    setup = prepare_training(config, data)
    world = setup.world
    run, unfinished = world.from_first(lambda: open_run(config.out, setup.config))
    with ExitStack() as stack:
        if world.is_first:
            stack.enter_context(run.locked())
            stack.enter_context(run.log_to_file())
        job = pretraining_job(setup, run, started_at)
        trainer = Trainer(job, run, on_step, on_sample, on_finding)
        manifest = describe(setup, run)  # before the time for steps begins
        trainer.start(unfinished)
        if world.is_first:
            run.write_manifest(manifest)
        resumed_from = trainer.progress.step
        trainer.train()
        result = world.from_first(
            lambda: _finish(setup, run, trainer.progress, manifest, resumed_from)
        )
    world.leave()
    return result


def _finish(
    setup: Setup,
    run: RunFolder,
    progress: Progress,
    manifest: dict[str, object],
    resumed_from: int,
) -> PretrainResult:
    if progress.best_step is None or progress.best_loss_nats is None:
        raise UserError(
            "This run is finished, but its best checkpoint is missing. Restore it from a copy, or "
            "train again in another folder.",
            where=run.checkpoints_path,
            settings={"out": f"{run.path}-2"},
        )
    assert progress.first_validation_loss_nats is not None
    best = run.checkpoints_path / step_name(progress.best_step)
    rows = []
    with going_on("The losses of the single steps"):
        rows = read_metrics(run)
    texts = TextUse(setup.config, setup.data, setup.loader.windows)
    result = PretrainResult(
        run=run.path,
        steps=progress.step,
        n_parameters=count_parameters(setup.config.model),
        n_targets=progress.n_targets,
        first_loss_nats=rows[0]["loss_nats"] if rows else math.nan,
        last_loss_nats=rows[-1]["loss_nats"] if rows else math.nan,
        first_validation_loss_nats=progress.first_validation_loss_nats,
        validation_loss_nats=progress.best_loss_nats,
        best_step=progress.best_step,
        elapsed_s=progress.elapsed_s,
        tokens_per_s=progress.n_targets / progress.elapsed_s,
        peak_memory_bytes=peak_memory_bytes(setup.model.device),
        resumed_from_step=resumed_from,
        n_passes=max(texts.passes(progress.step * setup.config.batch_size).values()),
        last_validation_loss_nats=rows[-1].get("validation_loss_nats") if rows else None,
        early_end_step=progress.early_end_step,
    )
    with going_on("The result of the run"):
        record_result(run.path, "pretrain", result)
    if setup.config.curves:
        with going_on("The figure of the loss"):
            from groundup.train.curves import draw_curves  # importing matplotlib is slow

            uniform_nats = math.log(setup.config.model.vocab_size)
            write_text(run.figures / "loss.svg", draw_curves({"": rows}, uniform_nats))
    with going_on("The README of the run"):
        run.write_readme(run_readme(setup, result))
    # Last: a run that is killed before this is unfinished, and the same command ends it.
    run.write_manifest({**manifest, "finished_at": now(), "weights_sha256": weights_sha256(best)})
    return result


def _check_late_settings(config: PretrainConfig, data: Data) -> None:
    """Refuse what would fail only after some steps.

    Raises:
        UserError: The text is shorter than the context, the prompt of the samples cannot be
            encoded, TensorBoard is not installed, or the run folder cannot be created.
    """
    if config.budget is None:  # otherwise the budget may choose another context length
        training_windows(config, data)
        validation_sets(config, data)
    encode_prompt(data.tokenizer, config.samples.prompt)
    if config.tensorboard:
        needed("tensorboard", "tensorboard", "tensorboard=True")
    check_name(config.out)
    outer = next(folder for folder in config.out.absolute().parents if folder.exists())
    if not config.out.exists() and not (outer.is_dir() and os.access(outer, os.W_OK)):
        raise UserError(
            "The run folder cannot be created. A writable location is expected.",
            where=config.out,
            settings={"out": "runs/another"},
        )
