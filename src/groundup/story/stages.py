"""The stages of a story, in order, and how the config of each follows from that of the story.

The story adds nothing to a stage. A stage whose result is already in the run folder is skipped, so
the same command resumes an interrupted story.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from groundup.base.config import from_mapping, to_mapping
from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.files import read_json, write_json
from groundup.base.run import RunFolder
from groundup.chat.config import ChatConfig
from groundup.data.config import (
    EncodeConfig,
    PrepareAndEncodeConfig,
    TrainAndEncodeConfig,
    WindowsConfig,
)
from groundup.evaluation.config import EvaluateConfig, GenerateConfig
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.instruct.config import InstructConfig
from groundup.inspection.config import ExplainConfig
from groundup.planning.config import PlanConfig
from groundup.story.config import StoryConfig
from groundup.story.folder import Story
from groundup.story.lines import first_documents, shuffled_lines, write_lines
from groundup.story.model_choice import choose_pretraining
from groundup.text.builtin import BUILTIN_NAME
from groundup.text.corpus import read_corpus_pieces
from groundup.train.config import PretrainConfig
from groundup.weights.config import ExportConfig, ImportConfig

_CHOICE = "story/pretraining.json"
_LINES = "lines.jsonl"
"""Not below story/, where files are never read as labels."""
CLASSIFIER: dict[str, Any] = {"method": "all", "learning_rate": 1e-3, "epochs": 2.0}
"""How a classifier is trained on a model of a few million parameters; the default learning rate is
for larger ones."""
MIN_CHARACTERS = 2_000
"""A training text of this length makes a few windows."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the story, and how to make its config."""

    verb: str
    title: str
    configure: Callable[[Story], Any]
    is_optional: bool = False
    """Whether the story continues without it when the text is too small."""
    is_finished: Callable[[Story], bool] | None = None
    """Whether an earlier call finished it. None: it did if its result is recorded."""


def run_stages(
    story: Story,
    call: Callable[[str, Any], Any],
    *,
    on_start: Callable[[int, Stage, bool], None],
    on_skip: Callable[[UserError], None],
) -> None:
    """Run every stage that has no result yet.

    Args:
        story: The story.
        call: Runs a command with a config and records its result.
        on_start: Called before each stage with its number, from 1, and whether it is finished.
        on_skip: Called when an optional stage failed.

    Raises:
        UserError: A stage failed. After the first one, no run folder is left.
    """
    for number, stage in enumerate(stages_of(story.config), 1):
        is_finished = (
            stage.verb in story.results() if stage.is_finished is None else stage.is_finished(story)
        )
        on_start(number, stage, is_finished)
        if is_finished:
            if stage.verb == "prepare":
                _require_enough(story)
            continue
        try:
            call(stage.verb, stage.configure(story))
            if stage.verb == "prepare":
                _require_enough(story)
        except UserError as mistake:
            if stage.is_optional:
                on_skip(mistake)
                continue
            if number == 1:  # nothing is finished yet: leave no empty run folder
                story.discard()
            named = story.named_as_typed(mistake)
            if named is mistake:
                raise
            raise named from mistake


def _require_enough(story: Story) -> None:
    n_characters = story.results()["prepare"]["train"]["n_characters"]
    if n_characters < MIN_CHARACTERS:
        raise UserError(
            f"The training text has {n_characters:,} characters. A story needs {MIN_CHARACTERS:,} "
            "or more (a page or two).",
            command="groundup story my.txt",
        )


def stages_of(config: StoryConfig) -> tuple[Stage, ...]:
    """List the stages of a story: with its own model, or with an imported one."""
    return STAGES if config.pretrained is None else PRETRAINED_STAGES


def _prepare(story: Story) -> PrepareAndEncodeConfig:
    config = story.config
    # Reading all of Shakespeare would take an imported model many minutes.
    default = () if config.pretrained is None else (BUILTIN_NAME,)
    return PrepareAndEncodeConfig(
        sources=config.sources or default, out=story.data, encoding=config.encoding
    )


def _plan(story: Story) -> PlanConfig:
    """Choose the model, and keep the choice for the training."""
    wanted = PretrainConfig(data=story.data, out=story.path, seed=story.config.seed)
    seconds = parse_duration_s(story.config.train_time, "train_time")
    chosen = choose_pretraining(wanted, seconds)
    write_json(story.path / _CHOICE, to_mapping(chosen))
    return PlanConfig(**{field.name: getattr(chosen, field.name) for field in fields(chosen)})


def _pretrain(story: Story) -> PretrainConfig:
    path = story.path / _CHOICE
    config: PretrainConfig = from_mapping(PretrainConfig, read_json(path), where=path)
    return config


def _classify(story: Story) -> ClassifyConfig:
    return replace_settings(_lines_task(story), **CLASSIFIER)


def _lines_task(story: Story) -> ClassifyConfig:
    """Tell lines from shuffled lines, which needs the order of words."""
    path = story.run / _LINES
    documents = first_documents(read_corpus_pieces(story.data, "validation"))
    write_lines(shuffled_lines(documents, story.config.seed), path)
    return ClassifyConfig(
        run=story.run,
        labels=path,
        text_column="text",
        label_column="label",
        split_column="set",
        seed=story.config.seed,
    )


STAGES = (
    Stage(
        verb="prepare",
        title="prepare: read and split documents, find duplicates",
        configure=_prepare,
    ),
    Stage(
        verb="train-tokenizer",
        title="train-tokenizer: from text to token ids",
        configure=lambda s: TrainAndEncodeConfig(data=s.data, vocab_size=s.config.vocab_size),
    ),
    Stage(
        verb="windows",
        title="windows: input-target pairs and batches",
        configure=lambda s: WindowsConfig(data=s.data),
    ),
    Stage(
        verb="plan",
        title="plan: choose a model, and predict the cost of training",
        configure=_plan,
    ),
    Stage(
        verb="pretrain",
        title="pretrain: update the parameters after each batch",
        configure=_pretrain,
        is_finished=lambda s: RunFolder(s.run).is_finished,  # its result is recorded before its end
    ),
    Stage(
        verb="evaluate",
        title="evaluate: compare with baselines on the same bytes",
        configure=lambda s: EvaluateConfig(run=s.path),
    ),
    Stage(
        verb="generate",
        title="generate: samples, and how much is memorized",
        configure=lambda s: GenerateConfig(run=s.path, prompt=s.config.prompt, seed=s.config.seed),
    ),
    Stage(
        verb="export",
        title="export: write a Hugging Face folder and verify it",
        configure=lambda s: ExportConfig(run=s.path),
    ),
    Stage(
        verb="classify",
        title="classify: is it a real line, or are its words shuffled?",
        configure=_classify,
        is_optional=True,
    ),
    Stage(
        verb="instruct",
        title="instruct: what a minute of instruction tuning teaches",
        configure=lambda s: InstructConfig(run=s.path),
        is_optional=True,
    ),
    Stage(
        verb="explain",
        title="explain: show attention, write the report",
        configure=lambda s: ExplainConfig(run=s.path),
    ),
)

PROMPT = "In Python, a variable is"
"""What the imported model continues."""
QUESTION = "What is a variable in Python? Answer in one sentence."
"""What the imported assistant is asked."""


def _import(story: Story) -> ImportConfig:
    with suppress(OSError):
        story.run.rmdir()  # an import that was killed leaves an empty folder
    return ImportConfig(source=Path(str(story.config.pretrained)), out=story.run)


def _evaluate_pretrained(story: Story) -> EvaluateConfig:
    """Windows of at most 1,024 tokens: those of a long context take minutes each."""
    [model] = RunFolder(story.run).checkpoints_path.glob("*/model.json")
    T = min(1024, read_json(model)["config"]["context_length"])
    return EvaluateConfig(run=story.run, data=story.data, context_length=T, batch_size=4)


PRETRAINED_STAGES = (
    Stage(
        verb="import",
        title="import: pretrained weights, their tokenizer and chat template",
        configure=_import,
        is_finished=lambda s: RunFolder(s.run).manifest_path.is_file(),
    ),
    STAGES[0],
    Stage(
        verb="encode",
        title="encode: the text as token ids of the imported tokenizer",
        configure=lambda s: EncodeConfig(data=s.data, tokenizer=s.run / "tokenizer"),
    ),
    STAGES[2],
    Stage(
        verb="evaluate",
        title="evaluate: compare with baselines on the same bytes",
        configure=_evaluate_pretrained,
    ),
    Stage(
        verb="generate",
        title="generate: sample from the imported model",
        configure=lambda s: GenerateConfig(
            run=s.run, prompt=s.config.prompt or PROMPT, seed=s.config.seed
        ),
    ),
    Stage(
        verb="classify",
        title="classify: is it a real line, or are its words shuffled?",
        configure=_lines_task,
        is_optional=True,
    ),
    Stage(
        verb="chat",
        title=f"chat: {QUESTION}",
        configure=lambda s: ChatConfig(run=s.run, ask=QUESTION, max_new_tokens=128),
        is_optional=True,
    ),
)
