"""The settings of `chat`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le

from groundup.base.fields import Config
from groundup.base.kinds import Count, Device, Fraction, FreeText, NotNegative, Whole


@dataclass(frozen=True, kw_only=True)
class ChatConfig(Config):
    """Settings of `chat`: talk to the assistant or the cast of a run, or to an imported model."""

    run: Path | None = None
    """Run folder that was fine-tuned by `groundup instruct`, `prefer` or `reinforce`, of which the
    newest result answers, or trained on plays; the folder of an assistant; or a run of an imported
    model with a chat template. Without it, the newest run with an assistant in runs/."""
    ask: FreeText = None
    """Answer this one question and exit. None: read questions from the terminal or a pipe."""
    system: FreeText = None
    """System message that begins the conversation. None: the one of the chat template, if any."""
    max_new_tokens: Count | None = None
    """Maximum length of an answer, in tokens. None: 48, 96 for the cast of plays, and 512 for an
    imported model, but at most half of the context."""
    character: str | None = None
    """Character of the plays who answers, e.g. JULIET. None: the one who speaks to another one
    most often."""
    temperature: NotNegative | None = None
    """Sampling temperature. 0: always the most likely token. None: 0, and 0.8 for the cast of
    plays."""
    top_k: Count | None = None
    """Sample from this many most likely tokens only. None: from all."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    """Sample from the most likely tokens that together have this probability. None: from all."""
    min_p: Fraction | None = None
    """Sample from tokens with at least this share of the largest probability. None: from all."""
    seed: Whole = 0
    """Random seed. The same seed and questions give the same answers."""
    history: Path | None = None
    """File that keeps the messages typed at a terminal, for the arrow keys of the next chat. None:
    they are kept until the chat ends, and not written to a file."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and products. bfloat16 is faster, and changes the answers."""
    quantize: Literal["int8", "file"] | None = None
    """Store weights in fewer bits: int8, or the blocks of the GGUF file that was imported. None
    disables it."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
