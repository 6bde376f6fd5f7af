"""The settings of `chat`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Settings of `chat`: talk to the assistant of a run."""

    run: Path = Path("runs/pretrain")
    """Run folder that was fine-tuned by `groundup instruct`, or the folder of an assistant."""
    ask: str | None = None
    """Answer this one question and exit. None: read questions from the terminal or a pipe."""
    max_new_tokens: int = 48
    """Maximum length of an answer, in tokens."""
    temperature: float = 0.0
    """Sampling temperature; 0 always takes the most likely token."""
    top_k: int | None = None
    """Sample from the k most likely tokens only. None disables it."""
    top_p: float | None = None
    """Sample from the most likely tokens that together have this probability. None disables it."""
    seed: int = 0
    """Random seed; the same seed and questions give the same answers."""
    device: str = "auto"
    """Device: auto, cpu or cuda."""
