"""The settings of `judge`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from groundup.base.fields import Config
from groundup.base.kinds import Count, Device, Positive, Whole


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(Config):
    """How to compare two sets of answers with a language model as the judge."""

    answers: tuple[Path, ...] = ()
    """Two files of questions and answers, or two runs, which answer the questions of --prompts."""
    prompts: Path | None = None
    """File of questions for runs (JSON lines, JSON, CSV, TSV or Parquet)."""
    url: str = ""
    """URL of an OpenAI-compatible server, such as http://localhost:8000/v1."""
    model: str = ""
    """Name of the model that judges, as the server knows it."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the server. Without it, no key is sent."""
    criterion: str = "Judge which answer is more helpful, correct and complete. Length is no merit."
    """What the judge is asked to look for."""
    show: bool = False
    """Print the prompt of the first pair in both orders, and ask nothing."""
    out: Path | None = None
    """Folder for the log of all exchanges. None: evaluation/judge in the first run, or judge beside
    the first file."""
    concurrency: Annotated[Count, Le(256)] = 4
    """Number of requests at the same time."""
    timeout_s: Positive = 120.0
    """Longest time to wait for a reply, in seconds."""
    retries: Whole = 4
    """How often a request is repeated where the server is busy or fails."""
    max_reply_tokens: Annotated[int, Ge(16)] = 512
    """Maximum length of a reply of the judge, in tokens."""
    max_new_tokens: Count = 256
    """Maximum length of an answer of a run, in tokens."""
    device: Device = "auto"
    """Device of the runs: auto, cpu, cuda, cuda:N or mps (untested)."""
