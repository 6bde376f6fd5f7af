"""`groundup story`: the verbs in roadmap order on one text, in one run folder, resumable.

The story adds nothing of its own to a stage: it gives each verb its config and calls it. A stage
whose result is already kept in the run folder is not done again, so the same command goes on where
it stopped.
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
from groundup.base.errors import UserError, quoted
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.cli.console import console, heading, next_command, note, warn
from groundup.cli.verbs import call

FEWEST_CHARACTERS = 2_000
"""Enough for a few windows."""


@dataclass(frozen=True, kw_only=True)
class StoryConfig:
    """What a story is told of."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, - for stdin, or a named text; without any: Python's own reference."""
    out: Path = Path("runs/story")
    """The run folder; a taken name gets -2, an unfinished story of the same text goes on."""
    vocab_size: int = 512
    """How many tokens the tokenizer learns, at most."""
    minutes: float = 2.0
    """About how long pretraining may take, in minutes; the steps are chosen from a probe."""
    encoding: str = "utf-8"
    """The encoding of the text files."""
    prompt: str = ""
    """What the samples continue; empty: the first words of the held-out text."""
    seed: int = 1234
    """The seed of everything random."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What every stage knows: the config and the run folder."""

    config: StoryConfig
    path: Path

    @property
    def data(self) -> Path:
        """The data folder inside the run."""
        return self.path / "data"

    def results(self) -> dict[str, Any]:
        """Read what the stages found so far, by verb."""
        return read_results(self.data) | read_results(self.path)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One verb of the story, and the config it is given."""

    verb: str
    title: str
    configure: Callable[[Story], Any]
    may_be_left_out: bool = False
    """Whether the road goes on without it when the text is too small for it."""


def run(config: StoryConfig) -> Path:
    """Walk the whole road; give the run folder."""
    started_at = time.monotonic()
    story = _open_story(config)
    for number, stage in enumerate(STAGES, 1):
        if stage.verb in story.results():
            note(f"{number}. {stage.title}: done before")
            continue
        heading(f"{number}/{len(STAGES)}  {stage.title}")
        try:
            call(stage.verb, stage.configure(story))
            if stage.verb == "prepare":
                _require_enough(story)
        except UserError as mistake:
            if stage.may_be_left_out:
                warn(f"Left out, the story goes on without it. {mistake}")
                continue
            if number == 1:  # nothing is done yet: leave no empty run behind
                shutil.rmtree(story.path)
            raise
    elapsed_s = time.monotonic() - started_at
    files.write_json(story.path / "story" / "done.json", {"elapsed_s": elapsed_s})
    console.print()
    note(f"The whole road took {elapsed_s / 60:.1f} minutes. Everything is in {story.path}/")
    note(f"Open {story.path / 'report.html'} in a browser: the same story with pictures.")
    next_command(f"groundup chat {quoted(story.path)}")
    return story.path


def _require_enough(story: Story) -> None:
    n_characters = story.results()["prepare"]["train"]["n_characters"]
    if n_characters < FEWEST_CHARACTERS:
        raise UserError(
            f"{n_characters:,} characters to learn from are too few for a story",
            need=f"a text of {FEWEST_CHARACTERS:,} or more (a page or two)",
            type_this="groundup story my.txt",
        )


def _prepare(story: Story) -> Any:
    from groundup.data.prepare import PrepareConfig

    return PrepareConfig(
        sources=story.config.sources, out=story.data, encoding=story.config.encoding
    )


def _train_tokenizer(story: Story) -> Any:
    from groundup.tokenizer.train import TrainTokenizerConfig

    return TrainTokenizerConfig(data=story.data, vocab_size=story.config.vocab_size)


def _windows(story: Story) -> Any:
    from groundup.cli.windows import WindowsConfig

    return WindowsConfig(data=story.data)


def _plan(story: Story) -> Any:
    from groundup.planning.plan import PlanConfig

    return PlanConfig(data=story.data, minutes=story.config.minutes)


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
    from groundup.finetune.classify.classify import ClassifyConfig

    return ClassifyConfig(run=story.path)


def _instruct(story: Story) -> Any:
    from groundup.finetune.instruct.instruct import InstructConfig

    return InstructConfig(run=story.path)


def _explain(story: Story) -> Any:
    from groundup.inspection.config import ExplainConfig

    return ExplainConfig(run=story.path)


STAGES = (
    Stage(verb="prepare", title="prepare: documents, split, duplicates", configure=_prepare),
    Stage(
        verb="train-tokenizer",
        title="train-tokenizer: from text to ids",
        configure=_train_tokenizer,
    ),
    Stage(verb="windows", title="windows: input-target pairs and batches", configure=_windows),
    Stage(verb="plan", title="plan: the cost before the start", configure=_plan),
    Stage(
        verb="pretrain",
        title="pretrain: after each batch the parameters move",
        configure=_pretrain,
    ),
    Stage(
        verb="evaluate", title="evaluate: beside yardsticks on the same bytes", configure=_evaluate
    ),
    Stage(verb="generate", title="generate: samples, and what is recited", configure=_generate),
    Stage(verb="export", title="weights: out as a Hugging Face folder and back", configure=_export),
    Stage(
        verb="classify",
        title="classify: a fine-tuned classifier",
        configure=_classify,
        may_be_left_out=True,
    ),
    Stage(
        verb="instruct",
        title="instruct: a personal assistant",
        configure=_instruct,
        may_be_left_out=True,
    ),
    Stage(verb="explain", title="explain: attention, and the report", configure=_explain),
)


def _open_story(config: StoryConfig) -> Story:
    """Go on with an unfinished story of the same config and text, or begin a new one."""
    piped = sys.stdin.buffer.read() if "-" in config.sources else None
    identity = {
        "config": configs.to_mapping(config),
        "text": _text_identity(config.sources, piped),
    }
    path = next((f for f in _candidates(config.out) if _identity(f) == identity), None)
    if path is not None:
        note(f"Going on with the unfinished story in {path}/")
    else:
        path = RunFolder.create(config.out).path
        files.write_json(path / "story" / "identity.json", identity)
    if piped is not None:  # a pipe can be read only once: later stages find it here
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
        return files.read_json(folder / "story" / "identity.json")
    except UserError:
        return None


def _text_identity(sources: tuple[str, ...], piped: bytes | None) -> str:
    """Fingerprint the sources by name, size and time, so that an edited text is a new story."""
    digest = hashlib.sha256(piped or b"")
    for source in sources:
        digest.update(source.encode())
        path = Path(source)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                state = file.stat()
                digest.update(f"{file}:{state.st_size}:{state.st_mtime_ns}".encode())
    return digest.hexdigest()
