"""The pretraining job: from a data folder to a run folder with a trained model in it.

The same command on an unfinished run goes on where its last checkpoint stands, and ends with the
very same weights as if nothing had happened.
"""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.config import HUGE, TINY, Range, check_ranges
from groundup.base.device import peak_memory_bytes
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_text
from groundup.base.results import record_result
from groundup.base.run import RunFolder, step_name
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters
from groundup.train.account import describe, run_readme
from groundup.train.budget import choose, duration_s
from groundup.train.checkpoint import Progress, weights_sha256
from groundup.train.loop import Step
from groundup.train.resume import chosen_before, open_run
from groundup.train.session import Session
from groundup.train.setup import Setup, open_data, prepare_training
from groundup.train.watch import Finding


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a foundation model is trained."""

    data: Path = Path("data")
    """data folder with tokenizer/, train/ and validation/, made by prepare and train-tokenizer"""
    out: Path = Path("runs/pretrain")
    """run folder; an unfinished run of the same settings goes on, a taken name gets -2"""
    model: GPTConfig = GPTConfig()  # noqa: RUF009 (frozen, so sharing it is harmless)
    """the shape of the model"""
    budget: str | None = None
    """how long all of it may take (90s, 10m, 2h); what is not set is chosen for it"""
    steps: int = 600
    """how many times the parameters move"""
    batch_size: int = 8
    """windows of text per step"""
    n_micro_batches: int = 1
    """into how many parts a batch is cut to save memory; the result stays the same"""
    recompute: bool = False
    """to save memory, keep only each layer's input for the backward pass; the rest is made again"""
    stride: int | None = None
    """how far the window slides over the text; None: its own length"""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon for matrices and AdamW for the rest; adamw: AdamW for everything"""
    learning_rate: float = 0.02
    """how far a step moves the matrices"""
    table_learning_rate: float = 0.03
    """how far it moves the tables; an untied head moves 128 / d_model as far (muon only)"""
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
    deterministic: bool = False
    """on a GPU, take kernels that give the same bits each time, at some cost; a CPU always does"""
    compile: bool = False
    """make one program of a step (torch.compile): a start of half a minute, then shorter steps"""
    threads: int | None = None
    """CPU threads; None: the cores this process may use"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """under torchrun each process holds the whole model (ddp), or a part of each weight (fsdp)"""
    curves: bool = True
    """draw loss and learning rate into figures/ at the end, which takes a second"""
    tensorboard: bool = False
    """write the metrics for TensorBoard, too; it needs the extra of this name"""
    seed: int = 1234
    """fixes the starting weights and the order of the text"""

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)
        if self.n_micro_batches > self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} windows cannot be cut into {self.n_micro_batches}",
                need="no more parts than windows",
                type_this=f"--n-micro-batches {self.batch_size}",
            )
        if self.compile and self.parallel == "fsdp":
            raise UserError("--compile needs whole weights", type_this="--parallel ddp --compile")


_RANGES: tuple[Range, ...] = (
    ("steps", 1, math.inf),
    ("batch_size", 1, math.inf),
    ("n_micro_batches", 1, math.inf),
    ("stride", 1, math.inf),
    ("learning_rate", TINY, HUGE),
    ("table_learning_rate", TINY, HUGE),
    ("vector_learning_rate", TINY, HUGE),
    ("momentum", 0, 1),
    ("weight_decay", 0, HUGE),
    ("warmup_steps", 0, math.inf),
    ("decay_frac", 0, 1),
    ("max_grad_norm", TINY, math.inf),
    ("validate_every", 0, math.inf),
    ("validation_windows", 1, math.inf),
    ("checkpoint_every", 1, math.inf),
    ("keep_checkpoints", 1, math.inf),
    ("sample_every", 0, math.inf),
    ("sample_tokens", 1, math.inf),
    ("threads", 1, math.inf),
)


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
    peak_memory_bytes: int
    """the most that this process held at a time"""
    resumed_from_step: int
    """0: not resumed"""


def pretrain(
    config: PretrainConfig,
    on_step: Callable[[Step], None] | None = None,
    on_sample: Callable[[int, str], None] | None = None,
    on_finding: Callable[[Finding], None] | None = None,
    on_choice: Callable[[PretrainConfig], None] | None = None,
    began_at: float | None = None,
) -> PretrainResult:
    """Train a model and leave a run folder.

    Args:
        config: The settings.
        on_step: Called after each step, with what it did.
        on_sample: Called with the step and a text the model wrote.
        on_finding: Called when the watch sees something wrong; it is in log.txt, too.
        on_choice: Called with the settings a budget has led to, before the first step.
        began_at: When the budget began, by `time.monotonic()`; None: now.

    Raises:
        UserError: No data, a text shorter than the context, a loss that is no number, a full disk.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with a checkpoint written.
    """
    began_at = time.monotonic() if began_at is None else began_at
    data = open_data(config.data)
    if config.budget is not None:
        config = chosen_before(config) or choose(config, data, duration_s(config.budget))
        if on_choice is not None:
            on_choice(config)
    setup = prepare_training(config, data)
    world = setup.world
    run, unfinished = world.from_first(lambda: open_run(config.out, setup.config))
    with ExitStack() as ours:
        if world.is_first:
            ours.enter_context(run.locked())
            ours.enter_context(run.log_to_file())
        session = Session(setup, run, on_step, on_sample, on_finding, began_at)
        session.start(unfinished)
        manifest = describe(setup)
        if world.is_first:
            run.write_manifest(manifest)
        resumed_from = session.progress.step
        session.train()
        result = world.from_first(
            lambda: _finish(setup, run, session.progress, manifest, resumed_from)
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
            "this run has made all its steps, and its best checkpoint is gone",
            need="a run anew",
            where=run.path / "checkpoints",
            type_this=f"--out {quoted(f'{run.path}-anew')}",
        )
    assert progress.first_validation_loss_nats is not None
    rows = run.read_metrics()
    result = PretrainResult(
        run=run.path,
        steps=progress.step,
        n_parameters=count_parameters(setup.config.model),
        n_targets=progress.n_targets,
        first_loss_nats=rows[0]["loss_nats"],
        last_loss_nats=rows[-1]["loss_nats"],
        first_validation_loss_nats=progress.first_validation_loss_nats,
        validation_loss_nats=progress.best_loss_nats,
        best_step=progress.best_step,
        elapsed_s=progress.elapsed_s,
        tokens_per_s=progress.n_targets / progress.elapsed_s,
        peak_memory_bytes=peak_memory_bytes(setup.model.device),
        resumed_from_step=resumed_from,
    )
    best = run.path / "checkpoints" / step_name(progress.best_step)
    if setup.config.curves:
        from groundup.train.curves import draw_curves  # matplotlib takes its time to load

        no_idea_nats = math.log(setup.config.model.vocab_size)
        write_text(run.path / "figures" / "loss.svg", draw_curves({"": rows}, no_idea_nats))
    run.write_readme(run_readme(setup, result))
    record_result(run.path, "pretrain", result)
    run.write_manifest(
        {
            **manifest,
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "weights_sha256": weights_sha256(best),
        }
    )
    return result
