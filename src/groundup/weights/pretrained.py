"""Weights of another project, as what reads them hands them to what writes a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from groundup.model.config import GPTConfig
from groundup.weights.special_ids import SpecialIds


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A model whose weights are read one at a time, so that memory does not follow its size."""

    config: GPTConfig
    family: str
    """Name of the architecture, as its files have it: gpt2, llama, qwen2, ..."""
    tensors: Mapping[str, Callable[[], Tensor]]
    """Our name of each parameter, and the function that reads it."""
    special_ids: SpecialIds
    files: tuple[Path, ...]
    """The files that were read: their hashes are the provenance of the run."""
    license: str | None = None
    """The license that the source states. None: it states none."""
