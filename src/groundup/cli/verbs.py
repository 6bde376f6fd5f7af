"""The verb table, in roadmap order: the one place that knows which room serves which verb."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One row of the verb table."""

    name: str
    stage: str
    help: str
    config: str
    view: str
    positional: str | None = None


_BUILD, _FOUND, _TUNE = "1 build the LLM", "2 foundation model", "3 fine-tuning"
_ALL, _INSIDE = "the whole road", "see inside"


def _verb(name: str, stage: str, help: str, config: str, positional: str | None) -> Verb:
    room = name.replace("-", "_") + ("_" if name == "import" else "")
    return Verb(name, stage, help, f"groundup.{config}", f"groundup.cli.{room}:run", positional)


# fmt: off
# ruff: noqa: E501
VERBS = [
    _verb("story", _ALL, "walk the whole road on one text", "cli.story:StoryConfig", "sources"),
    _verb("prepare", _BUILD, "read, split and audit documents", "data.prepare:PrepareConfig", "sources"),
    _verb("train-tokenizer", _BUILD, "learn byte-level BPE from the text", "tokenizer.train:TrainTokenizerConfig", "data"),
    _verb("tokens", _BUILD, "see a line as tokens", "cli.tokens:TokensConfig", "data"),
    _verb("windows", _BUILD, "see input-target pairs and batches", "cli.windows:WindowsConfig", "data"),
    _verb("plan", _FOUND, "know the cost before the start", "train.plan:PlanConfig", "data"),
    _verb("pretrain", _FOUND, "train the foundation model", "train.pretrain:PretrainConfig", "data"),
    _verb("evaluate", _FOUND, "measure it beside yardsticks", "evaluate.evaluate:EvaluateConfig", "run"),
    _verb("generate", _FOUND, "let it continue a text", "cli.generate:GenerateConfig", "run"),
    _verb("import", _FOUND, "load pretrained weights", "cli.import_:ImportConfig", "source"),
    _verb("export", _FOUND, "write a Hugging Face folder", "weights.export:ExportConfig", "run"),
    _verb("classify", _TUNE, "fine-tune a classifier", "finetune.classify:ClassifyConfig", "run"),
    _verb("instruct", _TUNE, "fine-tune an assistant", "finetune.instruct:InstructConfig", "run"),
    _verb("chat", _TUNE, "talk with the assistant", "cli.chat:ChatConfig", "run"),
    _verb("explain", _INSIDE, "see attention; write the report", "cli.explain:ExplainConfig", "run"),
]
# fmt: on
