"""Everything a training run is made of, put together from its config and its data."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from groundup.base.device import choose_device, set_threads
from groundup.base.errors import UserError, quoted
from groundup.base.memory import give_back, keep_freed
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.evaluate.loss import evaluate_loss
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.cost import check_memory, validation_rows
from groundup.train.optimizer import Optimizer
from groundup.train.precision import MixedPrecision, chosen_dtype
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.world import Loss, World

if TYPE_CHECKING:
    from groundup.train.pretrain import PretrainConfig

_log = logging.getLogger(__name__)

_SURE_BY = 1.3
"""A run that is reckoned to take so many times the free memory is not begun."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learnt from, and what is held out."""

    tokenizer: Tokenizer
    train: TokenStore
    validation: TokenStore


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A run about to begin."""

    config: "PretrainConfig"
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


class WrongTokenizerError(UserError):
    """Tokens were made with another tokenizer than the one beside them."""


def open_data(data: Path) -> Data:
    """Open a data folder's tokenizer and both stores.

    Raises:
        WrongTokenizerError: The stores were made with another tokenizer, or for a larger one.
        UserError: One is missing.
    """
    if not data.is_dir():
        raise UserError(
            "there is no data folder here",
            need="data made by prepare and train-tokenizer",
            where=data,
            type_this=f"groundup prepare --out {quoted(data)} && "
            f"groundup train-tokenizer {quoted(data)}",
        )
    stores = {side: TokenStore.open(data / side) for side in ("train", "validation")}
    tokenizer = load_tokenizer(data / "tokenizer")
    for side, store in stores.items():
        if store.tokenizer_fingerprint != tokenizer.fingerprint:
            found = f"the {side} tokens were made with another tokenizer than {data / 'tokenizer'}"
        elif store.vocab_size > tokenizer.vocab_size:
            found = (
                f"the {side} tokens may be any of {store.vocab_size:,} and the tokenizer knows "
                f"{tokenizer.vocab_size:,}"
            )
        else:
            continue
        raise WrongTokenizerError(
            found,
            need="stores made anew",
            where=data / side,
            type_this=f"groundup train-tokenizer {quoted(data)}",
        )
    return Data(tokenizer=tokenizer, train=stores["train"], validation=stores["validation"])


def with_vocabulary(config: "PretrainConfig", data: Data) -> "PretrainConfig":
    """The settings with the model's vocabulary as large as the tokenizer's."""
    model: GPTConfig = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, model=model)


def prepare_training(config: "PretrainConfig", data: Data) -> Setup:
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
    dtype = chosen_dtype(config, device)
    windows = Windows(data.train, config.model.context_length, config.stride)
    check_memory(config, sure_by=_SURE_BY)
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
