"""Build all parts of a training run from its settings and its data."""

import logging
import os
from dataclasses import dataclass

import torch

from groundup.base.device import choose_device, choose_dtype, set_threads
from groundup.base.errors import UserError
from groundup.base.malloc import give_back, keep_freed
from groundup.data.loader import Loader
from groundup.data.windows import Windows
from groundup.evaluation.loss import evaluate_loss, loss_windows
from groundup.model.gpt import GPT
from groundup.model.packed import variable_length_kernel
from groundup.train.batches import DocumentBatches, for_loss
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, errors_at, training_windows, with_vocabulary
from groundup.train.distributed import Loss, World
from groundup.train.job import BatchLoader
from groundup.train.optimizer import Optimizer
from groundup.train.precision import MixedPrecision
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.segments import LARGEST_KEPT_BYTES, SegmentedLoss

_log = logging.getLogger(__name__)
_VALIDATION_TOKENS, _VALIDATION_LOGITS = 2**12, 2**24
"""Without gradients, larger batches fit in memory, and they are faster."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All parts of a run."""

    config: PretrainConfig
    """The settings, with the vocabulary size of the tokenizer."""
    data: Data
    model: GPT
    optimizer: Optimizer
    schedule: Schedule | ClockSchedule
    loader: Loader
    """The windows of each batch."""
    batches: BatchLoader
    """The same as the loss takes them; its position is that of the loader."""
    loss: MixedPrecision
    """The loss of the model, in the number format of the run."""
    training_loss: Loss
    """The same, compiled if requested, with gradients averaged over the processes."""
    world: World
    """The processes of the run."""

    def compile_now(self) -> None:
        """Run forward and backward once, without an update, so that no step waits for compiling."""
        rows = [
            part.chunk(self.config.hardware.grad_accumulation_steps)[0].to(self.model.device)
            for part in for_loss(self.loader.batch(0))
        ]
        with torch.random.fork_rng():
            self.training_loss(*rows).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad()
        self.optimizer.compile_now()

    def validate(self, max_windows: int | None = None) -> float:
        """Mean loss in nats on the validation set, in the number format of the run.

        Of a mixture: the mean by weight over its texts.

        Args:
            max_windows: Limit of windows. None: `validation_windows`.
        """
        limit = max_windows or self.config.validation.validation_windows
        give_back()  # batches of another shape do not fit into the memory that steps have freed
        measured = [
            text.weight
            * evaluate_loss(
                self.model,
                text.validation,
                batch_size=validation_rows(self.config),
                documents=self.config.documents,
                max_windows=max(1, round(limit * text.weight)),
                loss=self.loss,
                rank=self.world.rank,
                world_size=self.world.size,
                add_up=self.world.sum,
            ).nats
            for text in self.data.texts
        ]
        give_back()
        return sum(measured)


def prepare_training(config: PretrainConfig, data: Data) -> Setup:
    """Build model, optimizer, schedule and loader. The seed determines every weight and batch.

    Raises:
        UserError: The text is shorter than the context, or a device or compiler is missing.
    """
    config = with_vocabulary(config, data)
    hardware = config.hardware
    device = choose_device(hardware.device)
    world = World.join(device)
    world.seed = config.seed
    set_threads(hardware.threads)
    keep_freed(largest_bytes=None if hardware.segment is None else LARGEST_KEPT_BYTES)
    if hardware.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    dtype = choose_dtype(hardware.dtype, device)
    windows = training_windows(config, data)
    model = GPT(config.model, seed=config.seed).to(device)
    model.activation_checkpointing = hardware.activation_checkpointing
    if world.size > 1 and hardware.parallel == "fsdp":
        world.shard(model, dtype)
        loss = MixedPrecision(model, torch.float32)  # FSDP gathers the weights in the right format
    elif hardware.segment is not None:
        loss = SegmentedLoss(model, dtype, hardware.segment)
    else:
        loss = MixedPrecision(model, dtype)
    optimizer = Optimizer(
        model,
        config.optimizer,
        dtype=dtype if hardware.dtype != "auto" else None,
        compiled=hardware.compile == "on" and device.type == "cuda",
    )
    # In main memory, where the loop counts the targets without waiting for a GPU.
    loader = Loader(
        windows,
        config.batch_size,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        n_ahead=2 if device.type == "cuda" else 0,
    )
    # Dropout uses torch's global random state, which checkpoints store.
    torch.manual_seed(config.seed)
    return Setup(
        config=config,
        data=data,
        model=model,
        optimizer=optimizer,
        schedule=Schedule.of(config.schedule, config.steps),
        loader=loader,
        batches=loader if config.documents == "stream" else DocumentBatches(loader, device),
        loss=loss,
        training_loss=world.average_gradients(
            _compiled(loss) if hardware.compile == "on" else loss
        ),
        world=world,
    )


def validation_sets(config: PretrainConfig, data: Data) -> list[Windows]:
    """The windows of the validation set, or of each one of a mixture.

    Raises:
        UserError: One is too short.
    """
    found = []
    for text in data.texts:
        with errors_at(text.validation):
            T, documents = config.model.context_length, config.documents
            found.append(loss_windows(text.validation, T, None, documents))
    return found


def _compiled(loss: MixedPrecision) -> MixedPrecision:
    """The same loss, compiled for batches of one shape; validations are not compiled.

    Raises:
        UserError: `torch.compile` does not work on this machine.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=next(loss.model.parameters()).device))
    except Exception as error:  # each backend raises its own errors
        raise UserError(
            "torch.compile does not work on this machine: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}. "
            "A C++ compiler (and Triton for a GPU) is expected.",
            command="apt install g++",
        ) from error
    variable_length_kernel()  # a compiled program cannot look for it
    compiled = MixedPrecision(loss.model, loss.dtype)
    compiled.compile(dynamic=False)
    return compiled


def validation_rows(config: PretrainConfig) -> int:
    """Number of windows in a validation batch."""
    model = config.model
    tokens = min(_VALIDATION_TOKENS, _VALIDATION_LOGITS // model.vocab_size)
    return max(
        config.batch_size // config.hardware.grad_accumulation_steps, tokens // model.context_length
    )
