"""The settings of a training run. This file loads no torch, so that `--help` can read it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.config import HUGE, TINY, Range, check_ranges
from groundup.base.errors import UserError
from groundup.model.config import GPTConfig


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
