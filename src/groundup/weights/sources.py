"""How parameters of ours are made of the tensors of another project's file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters
from groundup.model.gpt import GPT
from groundup.weights.pretrained import Pretrained

_TYPES = ("F32", "F16", "BF16", "F64")


@runtime_checkable
class Stored(Protocol):
    """A tensor in a file: its type and shape, and a way to read it."""

    @property
    def type(self) -> str:
        """The name of the data type: F32, F16, BF16, ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""

    def read(self) -> Tensor:
        """Read the tensor."""


@dataclass(frozen=True)
class Source:
    """A parameter of ours, and what it is made of."""

    our: str
    """Our name."""
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    """Names and shapes of the tensors whose rows it has, in this order. None: it is zero."""
    transposed: bool = False
    """Whether their matrix is the transpose of ours."""


def parameter_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """List the parameters of a model with their shapes.

    >>> parameter_shapes(GPTConfig())["head.weight"]
    Traceback (most recent call last):
        ...
    KeyError: 'head.weight'
    """
    parameters = GPT(config, initialize=False).named_parameters()  # takes no memory until written
    return {name: tuple(parameter.shape) for name, parameter in parameters}


def check_size(config: GPTConfig, n_tensors: int, n_values: int, *, where: Path) -> None:
    """Refuse a config that is far larger than the weights, before any memory is used for it.

    Raises:
        UserError: It is.
    """
    expected = count_parameters(config)
    if expected > 10 * n_values + 10_000_000 or config.n_layers > n_tensors:
        raise UserError(
            f"The config describes a model of {expected:,} parameters, and the weights have "
            f"{n_values:,}. A config that matches the weights is expected.",
            where=where,
        )


def refuse_names(missing: Sequence[str], unexpected: Sequence[str], *, where: Path) -> None:
    """Refuse weights that lack names of the config, or have others.

    Raises:
        UserError: There is such a name.
    """
    if missing or unexpected:
        raise UserError(
            f"Missing weights ({len(missing)}): {', '.join(missing[:3]) or 'none'}; "
            f"unexpected weights ({len(unexpected)}): {', '.join(unexpected[:3]) or 'none'}. "
            "Weights that match the config beside them are expected.",
            where=where,
        )


def readers(
    stored: Mapping[str, Stored],
    sources: Iterable[Source],
    config: GPTConfig,
    *,
    where: Path,
) -> dict[str, Callable[[], Tensor]]:
    """Check names, types and shapes, and return a function that reads each parameter of ours.

    Args:
        stored: Their tensors by name. Every one of them must be in a source.
        sources: What each of our parameters is made of.
        config: The architecture.
        where: The file or folder, for messages.

    Raises:
        UserError: A tensor is missing, unexpected, or of another type or shape.
    """
    sources = list(sources)
    used = {name for source in sources for name, _ in source.parts}
    missing = [s.our for s in sources if any(name not in stored for name, _ in s.parts)]
    extra = sorted(stored.keys() - used)
    refuse_names(missing, extra, where=where)
    for source in sources:
        for name, shape in source.parts:
            if stored[name].shape != shape:
                raise UserError(
                    f"The tensor {name} for {source.our} has shape {stored[name].shape}. The "
                    f"config beside it expects {shape}.",
                    where=where,
                )
            if stored[name].type not in _TYPES:
                raise UserError(
                    f"The tensor {name} is of type {stored[name].type}. {', '.join(_TYPES)} are "
                    "expected for weights.",
                    where=where,
                )
    shapes = parameter_shapes(config)
    assert shapes.keys() == {source.our for source in sources}
    return {s.our: _reader(s, stored, shapes[s.our]) for s in sources}


def _reader(
    source: Source, stored: Mapping[str, Stored], shape: tuple[int, ...]
) -> Callable[[], Tensor]:
    def read() -> Tensor:
        if not source.parts:
            return torch.zeros(shape)
        parts = [stored[name].read() for name, _ in source.parts]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        tensor = tensor.t() if source.transposed else tensor
        return tensor.float() if tensor.dtype == torch.float64 else tensor

    return read


def read_finite(pretrained: Pretrained, name: str, *, where: Path) -> Tensor:
    """Read a parameter and check its values.

    Raises:
        UserError: A value is NaN or infinite.
    """
    tensor = pretrained.tensors[name]()
    check_finite(tensor, name, where=where)
    return tensor


def check_finite(tensor: Tensor, name: str, *, where: Path) -> None:
    """Check the values of a parameter.

    Raises:
        UserError: A value is NaN or infinite.
    """
    # The extremes are NaN if any value is, and need no memory.
    if tensor.numel() and not all(bool(end.isfinite()) for end in tensor.aminmax()):
        raise UserError(
            f"The weight {name} has NaN or infinite values, so it is damaged. An intact copy of "
            "the weights is expected.",
            where=where,
        )


@torch.no_grad()
def build_model(pretrained: Pretrained) -> GPT:
    """Build the model with its weights, in float32 on the CPU."""
    model = GPT(pretrained.config, initialize=False)
    for name, parameter in model.named_parameters():
        parameter.copy_(pretrained.tensors[name]())
    return model
