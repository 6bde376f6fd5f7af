"""The pretraining job: from a data folder to a run folder with a trained model in it.

The same command on an unfinished run goes on where its last checkpoint stands, and ends with the
very same weights as if nothing had happened.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.files import sha256_file, write_text
from groundup.base.results import record_result
from groundup.base.run import RunFolder
from groundup.generate.engine import generate
from groundup.model.config import GPTConfig
from groundup.train.account import describe, log_metrics, run_readme
from groundup.train.checkpoint import Progress, find_latest, load_checkpoint, save_checkpoint
from groundup.train.interrupt import stop_between_steps
from groundup.train.loop import Step, train_steps
from groundup.train.resume import forget_metrics_after, open_run
from groundup.train.setup import Setup, open_data, prepare_training

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a foundation model is trained."""

    data: Path = Path("data")
    """data folder with tokenizer/, train/ and validation/, made by prepare and train-tokenizer"""
    out: Path = Path("runs/pretrain")
    """run folder; an unfinished run of the same settings goes on, a taken name gets -2"""
    model: GPTConfig = GPTConfig()  # noqa: RUF009 (frozen, so sharing it is harmless)
    """the shape of the model"""
    steps: int = 600
    """how many times the parameters move"""
    batch_size: int = 8
    """windows of text per step"""
    n_micro_batches: int = 1
    """into how many parts a batch is cut to save memory; the result stays the same"""
    stride: int | None = None
    """how far the window slides over the text; None: its own length"""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon for matrices and AdamW for the rest; adamw: AdamW for everything"""
    learning_rate: float = 0.02
    """how far a step moves the matrices"""
    table_learning_rate: float = 0.03
    """how far it moves token table, positions and head (muon only)"""
    vector_learning_rate: float = 0.01
    """how far it moves the norms' gains and biases (muon only)"""
    momentum: float = 0.95
    """how much of its old direction a matrix keeps at each step (muon only)"""
    muon_iterations: int = 5
    """how exactly a matrix's update is made orthogonal: 3, 4 or 5 steps of products (muon only)"""
    weight_decay: float = 1.0
    """share of a matrix taken away per step, times its rate; a text read many times wants much"""
    warmup_steps: int = 10
    """steps in which the rate rises, a tenth of the run at most"""
    decay_frac: float = 1.0
    """share of the run, at its end, in which the rate falls to zero"""
    max_grad_norm: float | None = None
    """longer gradients are shortened to this; None: never"""
    validate_every: int = 100
    """steps between two looks at the held-out text"""
    validation_windows: int = 256
    """windows of held-out text per look, spread evenly; groundup evaluate takes all of it"""
    checkpoint_every: int = 100
    """steps between two checkpoints; a new best validation loss makes one, too"""
    keep_checkpoints: int = 2
    """how many of the latest checkpoints stay, beside the best"""
    sample_every: int = 200
    """steps between two samples of what the model writes; 0: none"""
    sample_tokens: int = 60
    """length of a sample"""
    prompt: str = ""
    """what the samples continue; empty: the first words of the held-out text"""
    device: str = "auto"
    """auto, cpu or cuda"""
    dtype: str = "auto"
    """number format of the matrix products: fp32, bf16, or auto (bf16 where the chip has it)"""
    threads: int | None = None
    """CPU threads; None: the cores this process may use"""
    seed: int = 1234
    """fixes the starting weights and the order of the text"""


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What came of it."""

    run: Path
    steps: int
    n_parameters: int
    n_targets: int
    first_loss_nats: float
    last_loss_nats: float
    first_validation_loss_nats: float
    validation_loss_nats: float
    """of the best checkpoint, the one that `load` opens"""
    best_step: int
    elapsed_s: float
    tokens_per_s: float
    resumed_from_step: int
    """0: not resumed"""


def pretrain(
    config: PretrainConfig,
    on_step: Callable[[Step], None] | None = None,
    on_sample: Callable[[int, str], None] | None = None,
) -> PretrainResult:
    """Train a model and leave a run folder.

    Args:
        config: The settings.
        on_step: Called after each step, with what it did.
        on_sample: Called with the step and a text the model wrote.

    Raises:
        UserError: No data, a text shorter than the context, a loss that is no number, a full disk.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with a checkpoint written.
    """
    setup = prepare_training(config, open_data(config.data))
    run, unfinished = open_run(config.out, setup.config)
    handler = run.log_to_file()
    try:
        return _train(setup, run, unfinished, on_step, on_sample)
    finally:
        logging.getLogger("groundup").removeHandler(handler)
        handler.close()


def _train(
    setup: Setup,
    run: RunFolder,
    unfinished: bool,
    on_step: Callable[[Step], None] | None,
    on_sample: Callable[[int, str], None] | None,
) -> PretrainResult:
    config, data = setup.config, setup.data
    fingerprint = data.tokenizer.fingerprint
    checkpoints = run.path / "checkpoints"
    found = find_latest(checkpoints) if unfinished else None
    if found is None:
        run.write_config(config)
        data.tokenizer.save(run.path / "tokenizer")
        shutil.rmtree(checkpoints, ignore_errors=True)  # damaged ones, if any
        first_loss = setup.validate(config.batch_size)
        progress = Progress(
            step=0,
            n_targets=0,
            elapsed_s=0.0,
            loader=setup.loader.state_dict(),
            tokenizer_fingerprint=fingerprint,
            first_validation_loss_nats=first_loss,
        )
    else:
        progress = load_checkpoint(
            found, setup.model, setup.optimizer, tokenizer_fingerprint=fingerprint
        )
        setup.loader.load_state_dict(progress.loader)
        _log.info("going on from %s", found)
    resumed_from = progress.step
    manifest = describe(setup)
    run.write_manifest(manifest)
    forget_metrics_after(run, progress.step)
    with stop_between_steps() as stop:
        for step in train_steps(
            setup.loader,
            setup.loss,
            setup.optimizer,
            setup.schedule,
            first_step=progress.step + 1,
            n_targets=progress.n_targets,
            elapsed_s=progress.elapsed_s,
            n_micro_batches=config.n_micro_batches,
            max_grad_norm=config.max_grad_norm,
            validate=setup.validate,
            validate_every=config.validate_every,
        ):
            log_metrics(run, step)
            last = step.step == step.n_steps
            progress = _advance(progress, setup, step)
            due = last or step.step % config.checkpoint_every == 0
            due = due or progress.best_step == step.step
            if due:
                _save(setup, run, progress)
            if on_step is not None:
                on_step(step)
            if config.sample_every and (last or step.step % config.sample_every == 0):
                text = write_sample(setup)
                write_text(run.path / "samples" / f"step-{step.step:06d}.txt", text + "\n")
                if on_sample is not None:
                    on_sample(step.step, text)
            if stop.asked:  # after the last step too: the next start only finishes the run
                if not due:
                    _save(setup, run, progress)
                _log.info("stopped after step %d, with a checkpoint", step.step)
                raise KeyboardInterrupt
    return _finish(setup, run, progress, manifest, resumed_from)


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


def _save(setup: Setup, run: RunFolder, progress: Progress) -> None:
    save_checkpoint(
        run.path / "checkpoints",
        setup.model,
        setup.optimizer,
        progress,
        keep_last=setup.config.keep_checkpoints,
    )


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
        best_step=best_step,
        best_loss_nats=best_loss,
    )


def _finish(
    setup: Setup,
    run: RunFolder,
    progress: Progress,
    manifest: dict[str, object],
    resumed_from: int,
) -> PretrainResult:
    assert progress.best_step is not None
    assert progress.best_loss_nats is not None
    assert progress.first_validation_loss_nats is not None
    rows = run.read_metrics()
    result = PretrainResult(
        run=run.path,
        steps=progress.step,
        n_parameters=sum(parameter.numel() for parameter in setup.model.parameters()),
        n_targets=progress.n_targets,
        first_loss_nats=rows[0]["loss_nats"],
        last_loss_nats=rows[-1]["loss_nats"],
        first_validation_loss_nats=progress.first_validation_loss_nats,
        validation_loss_nats=progress.best_loss_nats,
        best_step=progress.best_step,
        elapsed_s=progress.elapsed_s,
        tokens_per_s=progress.n_targets / progress.elapsed_s,
        resumed_from_step=resumed_from,
    )
    best = run.path / "checkpoints" / f"step-{progress.best_step:06d}" / "model.safetensors"
    run.write_readme(run_readme(setup, result))
    record_result(run.path, "pretrain", result)
    run.write_manifest(
        {
            **manifest,
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "weights_sha256": sha256_file(best),
        }
    )
    return result
