"""`groundup story`: run all commands end to end on one text, in one run folder.

The story adds nothing to a stage: it makes the config of each command and runs it. A stage whose
result is already in the run folder is skipped, so the same command resumes an interrupted story.
"""

import dataclasses
import hashlib
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError, quoted
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.cli.console import console, heading, next_command, note, warn
from groundup.cli.verbs import call

MIN_CHARACTERS = 2_000
"""A training text of this length makes a few windows."""


@dataclass(frozen=True, kw_only=True)
class StoryConfig:
    """The text of a story, and its settings."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, - for stdin, or a named text. Default: Python's language reference."""
    out: Path = Path("runs/story")
    """Run folder. An unfinished story of the same text is resumed; an existing name gets -2."""
    vocab_size: int = 512
    """Maximum vocabulary size of the tokenizer."""
    train_time: str = "2m"
    """Time for pretraining, e.g. 2m. The number of steps follows from measured throughput."""
    encoding: str = "utf-8"
    """Encoding of the text files."""
    prompt: str = ""
    """Prompt of the samples. Empty: the first tokens of the validation set."""
    seed: int = 1234
    """Random seed."""

    def __post_init__(self) -> None:
        parse_duration_s(self.train_time, "train_time")


@dataclass(frozen=True, kw_only=True)
class Story:
    """The config and the run folder, for every stage."""

    config: StoryConfig
    path: Path

    @property
    def data(self) -> Path:
        """The data folder inside the run."""
        return self.path / "data"

    def results(self) -> dict[str, Any]:
        """Read the results of the finished stages, by command."""
        return read_results(self.data) | read_results(self.path)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the story, and how to make its config."""

    verb: str
    title: str
    configure: Callable[[Story], Any]
    is_optional: bool = False
    """Whether the story continues without it when the text is too small."""


def run(config: StoryConfig) -> Path:
    """Run every stage; return the run folder."""
    started_at = time.monotonic()
    story = _open_story(config)
    for number, stage in enumerate(STAGES, 1):
        if stage.verb in story.results():
            note(f"{number}. {stage.title}: finished before")
            continue
        heading(f"{number}/{len(STAGES)}  {stage.title}")
        try:
            call(stage.verb, stage.configure(story))
            if stage.verb == "prepare":
                _require_enough(story)
        except UserError as mistake:
            if stage.is_optional:
                warn(f"Skipped; the story continues without this stage. {mistake}")
                continue
            if number == 1:  # nothing is finished yet: leave no empty run folder
                shutil.rmtree(story.path)
            raise
    elapsed_s = time.monotonic() - started_at
    files.write_json(story.path / "story" / "done.json", {"elapsed_s": elapsed_s})
    console.print()
    note(f"All stages took {elapsed_s / 60:.1f} minutes. The run folder is {story.path}/")
    note(f"Open {story.path / 'report.html'} in a browser for a report with figures.")
    next_command(f"groundup chat {quoted(story.path)}")
    return story.path


def _require_enough(story: Story) -> None:
    n_characters = story.results()["prepare"]["train"]["n_characters"]
    if n_characters < MIN_CHARACTERS:
        raise UserError(
            f"The training text has {n_characters:,} characters. A story needs {MIN_CHARACTERS:,} "
            "or more (a page or two).",
            command="groundup story my.txt",
        )


def _prepare(story: Story) -> Any:
    from groundup.data.config import PrepareAndEncodeConfig

    return PrepareAndEncodeConfig(
        sources=story.config.sources, out=story.data, encoding=story.config.encoding
    )


def _train_tokenizer(story: Story) -> Any:
    from groundup.data.config import TrainAndEncodeConfig

    return TrainAndEncodeConfig(data=story.data, vocab_size=story.config.vocab_size)


def _windows(story: Story) -> Any:
    from groundup.data.config import WindowsConfig

    return WindowsConfig(data=story.data)


def _plan(story: Story) -> Any:
    from groundup.planning.config import PlanConfig

    return PlanConfig(data=story.data, train_time=story.config.train_time)


def _pretrain(story: Story) -> Any:
    from groundup.train.config import PretrainConfig

    steps = story.results()["plan"]["steps"]
    return PretrainConfig(data=story.data, out=story.path, steps=steps, seed=story.config.seed)


def _evaluate(story: Story) -> Any:
    from groundup.evaluation.config import EvaluateConfig

    return EvaluateConfig(run=story.path)


def _generate(story: Story) -> Any:
    from groundup.evaluation.config import GenerateConfig

    return GenerateConfig(run=story.path, prompt=story.config.prompt, seed=story.config.seed)


def _export(story: Story) -> Any:
    from groundup.weights.config import ExportConfig

    return ExportConfig(run=story.path)


def _classify(story: Story) -> Any:
    from groundup.finetune.classify.config import ClassifyConfig

    return ClassifyConfig(run=story.path)


def _instruct(story: Story) -> Any:
    from groundup.finetune.instruct.config import InstructConfig

    return InstructConfig(run=story.path)


def _explain(story: Story) -> Any:
    from groundup.inspection.config import ExplainConfig

    return ExplainConfig(run=story.path)


STAGES = (
    Stage(
        verb="prepare",
        title="prepare: read and split documents, find duplicates",
        configure=_prepare,
    ),
    Stage(
        verb="train-tokenizer",
        title="train-tokenizer: from text to token ids",
        configure=_train_tokenizer,
    ),
    Stage(verb="windows", title="windows: input-target pairs and batches", configure=_windows),
    Stage(verb="plan", title="plan: predict the cost of training", configure=_plan),
    Stage(
        verb="pretrain",
        title="pretrain: update the parameters after each batch",
        configure=_pretrain,
    ),
    Stage(
        verb="evaluate",
        title="evaluate: compare with baselines on the same bytes",
        configure=_evaluate,
    ),
    Stage(
        verb="generate", title="generate: samples, and how much is memorized", configure=_generate
    ),
    Stage(
        verb="export", title="export: write a Hugging Face folder and verify it", configure=_export
    ),
    Stage(
        verb="classify",
        title="classify: fine-tune a classifier",
        configure=_classify,
        is_optional=True,
    ),
    Stage(
        verb="instruct",
        title="instruct: fine-tune an assistant",
        configure=_instruct,
        is_optional=True,
    ),
    Stage(verb="explain", title="explain: show attention, write the report", configure=_explain),
)


def _open_story(config: StoryConfig) -> Story:
    """Resume an unfinished story of the same config and text, or start a new one."""
    piped = sys.stdin.buffer.read() if "-" in config.sources else None
    identity = {
        "config": configs.to_mapping(config),
        "text": _text_identity(config.sources, piped),
    }
    path = next((f for f in _candidates(config.out) if _identity(f) == identity), None)
    if path is not None:
        note(f"Resuming the unfinished story in {path}/")
    else:
        path = RunFolder.create(config.out).path
        files.write_json(path / "story" / "identity.json", identity)
    if piped is not None:  # a pipe can be read only once: later stages read this copy
        kept = path / "story" / "stdin.txt"
        files.write_bytes(kept, piped)
        sources = tuple(str(kept) if source == "-" else source for source in config.sources)
        config = dataclasses.replace(config, sources=sources)
    return Story(config=config, path=path)


def _candidates(out: Path) -> list[Path]:
    """Find the unfinished stories of this name."""
    if not out.parent.is_dir():
        return []
    named = sorted(path for path in out.parent.glob(f"{out.name}*") if path.is_dir())
    return [path for path in named if not (path / "story" / "done.json").exists()]


def _identity(folder: Path) -> Any:
    try:
        identity = files.read_json(folder / "story" / "identity.json")
        return identity | {"config": configs.with_current_names(StoryConfig, identity["config"])}
    except (UserError, KeyError, TypeError):
        return None


def _text_identity(sources: tuple[str, ...], piped: bytes | None) -> str:
    """Fingerprint the sources by name, size and time: an edited text starts a new story."""
    digest = hashlib.sha256(piped or b"")
    for source in sources:
        digest.update(source.encode())
        path = Path(source)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                state = file.stat()
                digest.update(f"{file}:{state.st_size}:{state.st_mtime_ns}".encode())
    return digest.hexdigest()
