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


@dataclass(frozen=True, kw_only=True)
class WindowsConfig:
    """Which windows to show."""

    data: Path = Path("data")
    """Data folder with token stores."""
    context_length: int = 128
    """Number of input tokens in a window."""
    stride: int | None = None
    """Distance between the starts of two windows, in tokens. None uses the context length."""
    batch_size: int = 4
    """Number of windows in a batch."""
    seed: int = 1234
    """Seed of the order of the windows."""
    page: Path | None = None
    """Also write an interactive HTML page of the sliding window to this file. None disables it."""


@dataclass(frozen=True, kw_only=True)
class LedgerConfig:
    """Which windows and batches to count."""

    data: Path = Path("data")
    """Data folder with token stores, or one token store."""
    context_length: int = 256
    """Number of input tokens in a window."""
    stride: int = 128
    """Distance between the starts of two windows, in tokens."""
    batch_size: int = 8
    """Number of windows in a batch."""


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What to read and what to write; one of the two formats is a token store."""

    source: Path = Path("data/train")
    """Token store, or token file of another project."""
    out: Path = Path("tokens.bin")
    """File to write, or folder of the token store to write."""
    from_format: Literal["store", "nanogpt", "llmc", "megatron"] = "store"
    """Format of the source."""
    to_format: Literal["store", "nanogpt", "llmc", "megatron"] = "nanogpt"
    """Format to write."""
    tokenizer: Path | None = None
    """Tokenizer folder of the token file, required to write a token store. None: not given."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify."""

    data: Path = Path("data")
    """Data folder, or one token store."""
