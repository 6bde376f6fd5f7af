"""The settings of the commands that work on prepared data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from groundup.base.fields import Config
from groundup.base.kinds import Count, IfBare, Whole
from groundup.text.config import PrepareConfig
from groundup.tokenizer.config import TrainTokenizerConfig


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(Config):
    """Which corpus to encode, and with which tokenizer."""

    data: Path = Path("data")
    """Data folder written by `groundup prepare`."""
    tokenizer: Path | None = None
    """Tokenizer folder, which is copied to DATA/tokenizer. None: DATA/tokenizer as it is."""
    engine: Literal["local", "ray"] = "local"
    """Where to encode: in this process, or on a Ray cluster that shares the data folder."""
    overwrite: bool = False
    """Replace what the folder contains already."""


@dataclass(frozen=True, kw_only=True)
class PrepareAndEncodeConfig(PrepareConfig):
    """What to read, how to split it, and optionally which tokenizer to encode it with."""

    tokenizer: Path | None = None
    """Tokenizer folder to encode the corpus with. None: only append to existing token stores."""
    engine: Literal["local", "ray"] = "local"
    """Where to encode: in this process, or on a Ray cluster that shares the data folder."""


@dataclass(frozen=True, kw_only=True)
class TrainAndEncodeConfig(TrainTokenizerConfig):
    """Which tokenizer to train and to encode the corpus with."""

    engine: Literal["local", "ray"] = "local"
    """Where to encode: in this process, or on a Ray cluster that shares the data folder."""


@dataclass(frozen=True, kw_only=True)
class WindowsConfig(Config):
    """Which windows to show."""

    data: Path = Path("data")
    """Data folder with token stores."""
    context_length: Count = 128
    """Number of input tokens in a window."""
    stride: Count | None = None
    """Tokens between the starts of two windows. None: the context length."""
    batch_size: Count = 4
    """Number of windows in a batch."""
    seed: Whole = 1234
    """Random seed of the order of the windows."""
    page: Annotated[Path | None, IfBare("windows.html")] = None
    """File to write an interactive HTML page of the sliding window to; --page alone writes
    windows.html. None: no page."""


@dataclass(frozen=True, kw_only=True)
class LedgerConfig(Config):
    """Which windows and batches to count."""

    data: Path = Path("data")
    """Data folder with token stores, or one token store."""
    context_length: Count = 256
    """Number of input tokens in a window."""
    stride: Count = 128
    """Tokens between the starts of two windows."""
    batch_size: Count = 8
    """Number of windows in a batch."""


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(Config):
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
    """Tokenizer folder of the token file, which writing a token store needs. None: no tokenizer."""
    overwrite: bool = False
    """Replace what is there already."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Config):
    """What to verify."""

    data: Path = Path("data")
    """Data folder, or one token store."""
