"""The settings of a training run, joined from those of its parts. No torch, for `--help`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from groundup.base.errors import UsageError, UserError
from groundup.base.fields import Config
from groundup.base.kinds import Count, Device, IfBare, Mark, Whole
from groundup.model.config import GPTConfig
from groundup.train.mix import read_mix
from groundup.train.optimizer import OptimizerConfig
from groundup.train.schedule import ScheduleConfig

_OrNever = Annotated[Count, Mark.ZERO_IS_NONE, Mark.BY_BUDGET]


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(Config):
    """When and on how much text the validation loss is measured."""

    validate_every: _OrNever | None = 100
    """Steps between two validations. None: only after the last step."""
    validation_windows: Annotated[Count, Mark.BY_BUDGET] = 256
    """Number of windows per validation, spread evenly over the validation set."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Config):
    """When checkpoints are written and which are kept."""

    checkpoint_every: Annotated[Count, Mark.BY_BUDGET] = 100
    """Steps between two checkpoints. A new best validation loss also writes one."""
    keep_checkpoints: Annotated[Count, Mark.NO_COST] = 2
    """Number of latest checkpoints to keep, besides the best."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Config):
    """Text that the model generates during training."""

    sample_every: _OrNever | None = 200
    """Steps between two samples. None: no samples."""
    sample_tokens: Count = 60
    """Length of a sample in tokens."""
    prompt: str = ""
    """Prompt of the samples. Empty: the first words of the validation set."""


@dataclass(frozen=True, kw_only=True)
class HardwareConfig(Config):
    """Where and in which number format the model is trained."""

    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the matrix products. auto: bf16 if the hardware supports it, else fp32."""
    grad_accumulation_steps: Annotated[Count, Mark.BY_BUDGET] = 1
    """Number of parts that a batch is split into to save memory. The result stays the same."""
    activation_checkpointing: bool = False
    """Save memory by computing the activations of a layer again in the backward pass."""
    segment: Annotated[Count | None, Mark.BY_BUDGET] = None
    """Tokens of a window that are computed at a time, which saves memory in long windows. The
    gradients stay those of the whole window. None: all, or fewer where a window does not fit."""
    compile: Annotated[Literal["auto", "on", "off"], IfBare("on"), Mark.BY_BUDGET] = "auto"
    """Compile the training step with torch.compile: a slower start, then faster steps.
    auto: where the run is long enough to earn the time back."""
    threads: Count | None = None
    """Number of CPU threads. None: all cores that this process may use."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: a full copy of the model per process, or a shard of every weight (FSDP)."""
    deterministic: Annotated[bool, Mark.NO_COST] = False
    """On a GPU, use deterministic kernels, which are slower. A CPU is always deterministic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile == "on" and self.parallel == "fsdp":
            raise UserError(
                'compile does not work with parallel="fsdp".', settings={"parallel": "ddp"}
            )
        others = {"compile": "on", "parallel": "fsdp", "activation_checkpointing": True}
        without = {"compile": "off", "parallel": "ddp", "activation_checkpointing": False}
        for name, value in others.items():
            if self.segment is not None and getattr(self, name) == value:
                raise UserError(
                    f"segment does not work with {name}={value!r}.",
                    settings={name: without[name]},
                )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Config):
    """Settings of a training run of a foundation model."""

    data: Annotated[Path, Mark.NO_COST] = Path("data")
    """Data folder, as `prepare` and `train-tokenizer` write it."""
    out: Annotated[Path, Mark.NO_COST] = Path("runs/pretrain")
    """Run folder. An unfinished run with the same settings is resumed; otherwise -2 is added."""
    budget: str | None = None
    """Time for the whole run, e.g. 90s, 10m or 2h. It chooses the settings that are not given.
    None: as many steps as set."""
    steps: Annotated[Count, Mark.BY_BUDGET] = 600
    """Number of optimizer steps."""
    batch_size: Annotated[Count, Mark.BY_BUDGET] = 8
    """Number of windows of text per step."""
    stride: Annotated[Count | None, Mark.NO_COST] = None
    """Tokens between the starts of two windows. None: the context length."""
    documents: Literal["stream", "isolated", "packed", "padded"] = "stream"
    """How windows hold documents. stream: one after the other, and attention crosses them.
    isolated: the same, and a document mask and positions that restart separate them. packed: as
    many whole documents as fit, separated, and longer ones are cut. padded: one document."""
    coverage: Annotated[Literal["book", "exact"], Mark.NO_COST] = "book"
    """Targets of an epoch. book: none after the last full window. exact: every token once."""
    mix: tuple[str, ...] = ()
    """Data folders to mix and their weights, as books=3,code=1, instead of one data folder. They
    have one tokenizer, and the validation loss is the mean by the same weights."""
    seed: Annotated[Whole, Mark.NO_COST] = 1234
    """Random seed of the initial weights and the order of the text."""
    curves: Annotated[bool, Mark.NO_COST] = True
    """Draw the loss and the learning rate into figures/ at the end."""
    tensorboard: Annotated[bool, Mark.NO_COST] = False
    """Also write the metrics for TensorBoard. Needs the extra `tensorboard`."""
    model: Annotated[GPTConfig, Mark.BY_BUDGET] = GPTConfig()  # noqa: RUF009 (frozen)
    """The architecture."""
    optimizer: OptimizerConfig = OptimizerConfig()  # noqa: RUF009
    """The optimizer."""
    schedule: Annotated[ScheduleConfig, Mark.NO_COST] = ScheduleConfig()  # noqa: RUF009
    """The learning-rate schedule."""
    validation: ValidationConfig = ValidationConfig()
    """Validation during training."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    samples: Annotated[SampleConfig, Mark.NO_COST] = SampleConfig()
    """Samples of generated text."""
    hardware: HardwareConfig = HardwareConfig()
    """Device, number format and parallelism."""

    @property
    def texts(self) -> tuple[tuple[Path, float], ...]:
        """The data folders and their weights."""
        return read_mix(self.mix) if self.mix else ((self.data, 1.0),)

    @property
    def first_data(self) -> Path:
        """The data folder, or the first one of a mixture."""
        return self.texts[0][0]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_texts()
        if self.hardware.grad_accumulation_steps > self.batch_size:
            raise UserError(
                f"A batch of {self.batch_size} windows cannot be split into "
                f"{self.hardware.grad_accumulation_steps} parts.",
                settings={"grad_accumulation_steps": self.batch_size},
            )
        self._check_segment()

    def _check_segment(self) -> None:
        segment, T = self.hardware.segment, self.model.context_length
        if segment is not None and segment > T:
            raise UserError(
                f"A segment has {segment:,} tokens and a window has {T:,}. A segment is at most as "
                "long as a window.",
                settings={"context_length": 2 * segment},
            )
        if segment is not None and self.documents != "stream":
            raise UserError(
                f"segment does not work with documents={self.documents!r}, which separates the "
                "documents of a window. Windows over a stream of documents are expected.",
                settings={"documents": "stream"},
            )

    def _check_texts(self) -> None:
        if self.mix and self.texts and self.data != type(self)().data:
            raise UsageError(
                f"mix names the data folders, and data is {self.data}. Leave data out, or name it "
                "in mix.",
            )
        if self.documents not in ("packed", "padded"):
            return
        if self.stride is not None or self.coverage != "book":
            raise UsageError(
                f"documents is {self.documents}, with a stride or a coverage. Each prediction "
                "inside a document is made once then, so neither is expected.",
                settings={"stride": None, "coverage": "book"},
            )
        if self.documents == "padded" and self.budget is not None:
            raise UsageError(
                'budget does not work with documents="padded": how much of a window is padding '
                "depends on the settings that it chooses.",
                settings={"documents": "packed"},
            )
