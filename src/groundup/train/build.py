"""Everything a training run is made of, put together from its config and its data."""

import logging
import os
from dataclasses import dataclass

import torch

from groundup.base.device import choose_device, choose_dtype, set_threads
from groundup.base.errors import UserError
from groundup.base.malloc import give_back, keep_freed
from groundup.data.loader import Loader
from groundup.data.windows import Windows
from groundup.evaluation.loss import evaluate_loss
from groundup.model.gpt import GPT
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, with_vocabulary
from groundup.train.distributed import Loss, World
from groundup.train.optimizer import Optimizer
from groundup.train.precision import MixedPrecision
from groundup.train.schedule import ClockSchedule, Schedule

_log = logging.getLogger(__name__)
_VALIDATION_TOKENS, _VALIDATION_LOGITS = 2**12, 2**24
"""Without gradients more windows fit at once than in a step, and more at once are faster."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A run about to begin."""

    config: PretrainConfig
    """The settings, with the model's vocabulary as the tokenizer has it."""
    data: Data
    model: GPT
    optimizer: Optimizer
    schedule: Schedule | ClockSchedule
    loader: Loader
    loss: MixedPrecision
    """The model's loss, in the number format of the run."""
    training_loss: Loss
    """The same, compiled if that is wished, with its gradients averaged over the processes."""
    world: World
    """The processes of the run."""

    def compile_now(self) -> None:
        """Run forward and backward once, so that no step waits for the compiler; nothing moves."""
        inputs, targets = (
            part.chunk(self.config.n_micro_batches)[0].to(self.model.device)
            for part in self.loader.batch(0)
        )
        with torch.random.fork_rng():
            self.training_loss(inputs, targets).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad()

    def validate(self, max_windows: int | None = None) -> float:
        """Mean loss in nats on the held-out text, in the number format of the run.

        Args:
            max_windows: Look at no more windows than this; None: `validation_windows`.
        """
        give_back()  # batches of another shape would not fit in what the steps have freed
        measured = evaluate_loss(
            self.model,
            self.data.validation,
            batch_size=validation_rows(self.config),
            max_windows=max_windows or self.config.validation_windows,
            loss=self.loss,
            rank=self.world.rank,
            world_size=self.world.size,
            add_up=self.world.sum,
        )
        give_back()
        return measured.nats


def prepare_training(config: PretrainConfig, data: Data) -> Setup:
    """Build model, optimiser, schedule and loader; every weight and batch follows from the seed.

    Raises:
        UserError: The text is shorter than the context, a setting is out of its range, or the model
            and the batch can never fit in memory.
    """
    config = with_vocabulary(config, data)
    device = choose_device(config.device)
    world = World.join(device)
    world.seed = config.seed
    set_threads(config.threads)
    keep_freed()
    if config.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    dtype = choose_dtype(config.dtype, device)
    windows = Windows(data.train, config.model.context_length, config.stride)
    model = GPT(config.model, seed=config.seed).to(device)
    model.recompute = config.recompute
    if world.size > 1 and config.parallel == "fsdp":
        world.shard(model, dtype)
        loss = MixedPrecision(model, torch.float32)  # the parts come in the right format
    else:
        loss = MixedPrecision(model, dtype)
    optimizer = Optimizer(
        model,
        kind=config.optimizer,
        learning_rate=config.learning_rate,
        table_learning_rate=config.table_learning_rate,
        vector_learning_rate=config.vector_learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        n_iterations=config.muon_iterations,
        dtype=dtype if config.dtype != "auto" else None,
    )
    schedule = Schedule(
        n_steps=config.steps,
        # A short run keeps a warm-up of a tenth at most.
        warmup_steps=min(config.warmup_steps, config.steps // 10),
        decay_frac=config.decay_frac,
    )
    # Dropout draws from torch's own random state, which checkpoints store.
    torch.manual_seed(config.seed)
    return Setup(
        config=config,
        data=data,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        # A GPU is fed from pinned memory while it computes; a CPU has nothing to gain from it.
        loader=Loader(
            windows,
            config.batch_size,
            seed=config.seed,
            rank=world.rank,
            world_size=world.size,
            n_ahead=2 if device.type == "cuda" else 0,
            device=device,
        ),
        loss=loss,
        training_loss=world.average_gradients(_compiled(loss) if config.compile else loss),
        world=world,
    )


def _compiled(loss: MixedPrecision) -> MixedPrecision:
    """The same loss for steps of one shape; looks at the held-out text stay as they are.

    Raises:
        UserError: What `torch.compile` needs is missing.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=loss.model.device))
    except Exception as error:  # each backend has errors of its own
        raise UserError(
            f"torch.compile does not work here: {str(error).strip().splitlines()[0]}",
            need="a C++ compiler (and Triton for a GPU)",
            type_this="apt install g++",
        ) from error
    compiled = MixedPrecision(loss.model, loss.dtype)
    compiled.compile(dynamic=False)
    return compiled


def validation_rows(config: PretrainConfig) -> int:
    """How many windows of held-out text are looked at together."""
    model = config.model
    tokens = min(_VALIDATION_TOKENS, _VALIDATION_LOGITS // model.vocab_size)
    return max(config.batch_size // config.n_micro_batches, tokens // model.context_length)
