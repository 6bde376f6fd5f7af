"""The settings of the commands that work on prepared data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.text.config import PrepareConfig
from groundup.tokenizer.config import TrainTokenizerConfig


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Which corpus to encode, and with which tokenizer."""

    data: Path = Path("data")
    """Data folder written by `groundup prepare`."""
    tokenizer: Path | None = None
    """Tokenizer folder, which is copied to DATA/tokenizer. None: use DATA/tokenizer as it is."""
    engine: Literal["local", "ray"] = "local"
    """Where to encode: in this process, or on a Ray cluster that shares the data folder."""


@dataclass(frozen=True, kw_only=True)
class PrepareAndEncodeConfig(PrepareConfig):
    """What to read, how to split it, and optionally which tokenizer to encode it with."""

    tokenizer: str | None = None
    """Tokenizer folder to encode the corpus with. None: only append to existing token stores."""
    engine: Literal["local", "ray"] = "local"
    """Where to encode: in this process, or on a Ray cluster that shares the data folder."""


@dataclass(frozen=True, kw_only=True)
class TrainAndEncodeConfig(TrainTokenizerConfig):
    """Which tokenizer to train and to encode the corpus with."""

    engine: Literal["local", "ray"] = "local"
    """Where to encode: in this process, or on a Ray cluster that shares the data folder."""
