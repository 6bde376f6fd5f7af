"""`groundup story`: the verbs in roadmap order on one text, in one run folder, resumable.

The story adds nothing of its own to a stage: it gives each verb its config, calls the verb's view
and keeps what the view returns as `RUN/story/NN-verb.json`, from which the report is written. A
stage whose file is there is not done again, so the same command goes on where it stopped.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.cli.console import console, heading, next_command, note

_LIVE = object()


@dataclass(frozen=True, kw_only=True)
class StoryConfig:
    """What a story is told of."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, - for stdin, or a named text; without any: Python's own reference."""
    out: Path = Path("runs/story")
    """The run folder; a taken name gets -2, an unfinished story of the same text goes on."""
    vocab_size: int = 1024
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
class Stage:
    """One verb of the story."""

    name: str
    title: str
    run: Callable[["Story"], Any]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What every stage knows: the config, the run folder, the results so far."""

    config: StoryConfig
    path: Path

    @property
    def data(self) -> Path:
        """The data folder inside the run."""
        return self.path / "data"

    def result(self, name: str) -> dict[str, Any]:
        """Read back what an earlier stage returned."""
        result = files.read_json(self.stage_file(name))
        assert isinstance(result, dict)
        return result

    def stage_file(self, name: str) -> Path:
        """Name the file that marks a stage as done."""
        number = [stage.name for stage in STAGES].index(name) + 1
        return self.path / "story" / f"{number:02}-{name}.json"


def run(config: StoryConfig) -> Path:
    """Walk the whole road; give the run folder."""
    started_at = time.monotonic()
    story = _open_story(config)
    for number, stage in enumerate(STAGES, 1):
        file = story.stage_file(stage.name)
        if file.exists():
            note(f"{number}. {stage.title}: done before, kept in {file}")
            continue
        heading(f"{number}/{len(STAGES)}  {stage.title}")
        result = stage.run(story)
        files.write_json(file, _plain(result))
    files.write_json(
        story.path / "story" / "done.json", {"elapsed_s": time.monotonic() - started_at}
    )
    minutes = (time.monotonic() - started_at) / 60
    console.print()
    note(f"The whole road took {minutes:.1f} minutes. Everything is in {story.path}/")
    note(f"Open {story.path / 'report.html'} in a browser: the same story with pictures.")
    next_command(f"groundup chat {story.path}")
    return story.path


def _prepare(story: Story) -> Any:
    from groundup.cli import prepare
    from groundup.data.prepare import PrepareConfig

    return prepare.run(
        PrepareConfig(
            sources=story.config.sources,
            out=story.data,
            encoding=story.config.encoding,
            seed=story.config.seed,
        )
    )


def _train_tokenizer(story: Story) -> Any:
    from groundup.cli import train_tokenizer
    from groundup.tokenizer.train import TrainTokenizerConfig

    return train_tokenizer.run(
        TrainTokenizerConfig(data=story.data, vocab_size=story.config.vocab_size)
    )


def _windows(story: Story) -> Any:
    from groundup.cli import windows

    return windows.run(windows.WindowsConfig(data=story.data))


def _plan(story: Story) -> Any:
    from groundup.cli import plan
    from groundup.train.plan import PlanConfig

    return plan.run(PlanConfig(data=story.data, minutes=story.config.minutes))


def _pretrain(story: Story) -> Any:
    from groundup.cli import pretrain
    from groundup.train.pretrain import PretrainConfig

    return pretrain.run(
        PretrainConfig(
            data=story.data,
            out=story.path,
            steps=story.result("plan")["steps"],
            seed=story.config.seed,
        )
    )


def _evaluate(story: Story) -> Any:
    from groundup.cli import evaluate
    from groundup.evaluate.evaluate import EvaluateConfig

    return evaluate.run(EvaluateConfig(run=story.path))


def _generate(story: Story) -> Any:
    from groundup.cli import generate

    return generate.run(
        generate.GenerateConfig(run=story.path, prompt=story.config.prompt, seed=story.config.seed)
    )


def _export(story: Story) -> Any:
    from groundup.cli import export
    from groundup.weights.export import ExportConfig

    return export.run(ExportConfig(run=story.path))


def _classify(story: Story) -> Any:
    from groundup.cli import classify
    from groundup.finetune.classify import ClassifyConfig

    return classify.run(ClassifyConfig(run=story.path))


def _instruct(story: Story) -> Any:
    from groundup.cli import instruct
    from groundup.finetune.instruct import InstructConfig

    return instruct.run(InstructConfig(run=story.path))


def _explain(story: Story) -> Any:
    from groundup.cli import explain

    return explain.run(explain.ExplainConfig(run=story.path))


STAGES = (
    Stage(name="prepare", title="prepare: documents, split, duplicates", run=_prepare),
    Stage(name="train-tokenizer", title="train-tokenizer: from text to ids", run=_train_tokenizer),
    Stage(name="windows", title="windows: input-target pairs and batches", run=_windows),
    Stage(name="plan", title="plan: the cost before the start", run=_plan),
    Stage(name="pretrain", title="pretrain: after each batch the parameters move", run=_pretrain),
    Stage(name="evaluate", title="evaluate: beside yardsticks on the same bytes", run=_evaluate),
    Stage(name="generate", title="generate: samples, and what is recited", run=_generate),
    Stage(name="export", title="weights: out as a Hugging Face folder and back", run=_export),
    Stage(name="classify", title="classify: a fine-tuned classifier", run=_classify),
    Stage(name="instruct", title="instruct: a personal assistant", run=_instruct),
    Stage(name="explain", title="explain: attention, and the report", run=_explain),
)


def _open_story(config: StoryConfig) -> Story:
    """Go on with an unfinished story of the same config and text, or begin a new one."""
    identity = {"config": configs.to_mapping(config), "text": _text_identity(config)}
    for folder in _candidates(config.out):
        if not (folder / "story" / "done.json").exists() and _identity(folder) == identity:
            note(f"Going on with the unfinished story in {folder}/")
            return Story(config=config, path=folder)
    path = RunFolder.create(config.out).path
    files.write_json(path / "story" / "identity.json", identity)
    return Story(config=config, path=path)


def _candidates(out: Path) -> list[Path]:
    if not out.parent.is_dir():
        return []
    return sorted(path for path in out.parent.glob(f"{out.name}*") if path.is_dir())


def _identity(folder: Path) -> Any:
    try:
        return files.read_json(folder / "story" / "identity.json")
    except UserError:
        return None


def _text_identity(config: StoryConfig) -> str:
    """Fingerprint the sources by name, size and time, so that an edited text is a new story."""
    digest = hashlib.sha256()
    for source in config.sources:
        digest.update(source.encode())
        path = Path(source)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                state = file.stat()
                digest.update(f"{file}:{state.st_size}:{state.st_mtime_ns}".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Turn a verb's result into what JSON can hold; live objects (a model) are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        value = {name: getattr(value, name) for name in names}
    if isinstance(value, dict):
        plain = {str(key): _plain(item) for key, item in value.items()}
        return {key: item for key, item in plain.items() if item is not _LIVE}
    if isinstance(value, (list, tuple)):
        return [item for item in map(_plain, value) if item is not _LIVE]
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else _LIVE
