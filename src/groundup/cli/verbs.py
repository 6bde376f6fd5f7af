"""The verb table, in roadmap order: the one place that knows which room serves which verb."""

import gc
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Verb:
    """One row of the verb table."""

    name: str
    stage: str
    help: str
    config: str
    view: str
    positional: str | None = None
    """The config's field that is given without an option's name."""
    home: str | None = None
    """The config's field that names the folder the result is kept in; None: the verb keeps it, or none."""


_BUILD, _FOUND, _TUNE = "1 build the LLM", "2 foundation model", "3 fine-tuning"
_ALL, _INSIDE = "the whole road", "see inside"


def _verb(
    name: str, stage: str, help: str, config: str, positional: str, home: str | None = None
) -> Verb:
    room = name.replace("-", "_") + ("_" if name == "import" else "")
    view = f"groundup.cli.{room}:run"
    return Verb(name, stage, help, f"groundup.{config}", view, positional, home)


# fmt: off
# ruff: noqa: E501
VERBS = [
    _verb("story", _ALL, "walk the whole road on one text", "cli.story:StoryConfig", "sources"),
    _verb("prepare", _BUILD, "read, split and audit documents", "data.prepare:PrepareConfig", "sources", "out"),
    _verb("verify", _BUILD, "compare every byte of a data folder with its checksum", "data.verify:VerifyConfig", "data"),
    _verb("train-tokenizer", _BUILD, "learn byte-level BPE from the text", "tokenizer.train:TrainTokenizerConfig", "data", "data"),
    _verb("tokens", _BUILD, "see a line as tokens", "cli.tokens:TokensConfig", "data"),
    _verb("windows", _BUILD, "see input-target pairs and batches", "cli.windows:WindowsConfig", "data", "data"),
    _verb("ledger", _BUILD, "account for every token of an epoch", "cli.ledger:LedgerConfig", "data", "data"),
    _verb("convert", _BUILD, "token files of nanoGPT, llm.c, Megatron", "cli.convert:ConvertConfig", "source"),
    _verb("plan", _FOUND, "know the cost before the start", "planning.plan:PlanConfig", "data", "data"),
    _verb("pretrain", _FOUND, "train the foundation model", "train.config:PretrainConfig", "data"),
    _verb("doctor", _FOUND, "find what is wrong with a run", "pretraining.doctor:DoctorConfig", "run", "run"),
    _verb("compare", _FOUND, "set runs beside each other", "pretraining.compare:CompareConfig", "runs"),
    _verb("evaluate", _FOUND, "measure it beside yardsticks", "evaluation.config:EvaluateConfig", "run", "run"),
    _verb("generate", _FOUND, "let it continue a text", "evaluation.config:GenerateConfig", "run", "run"),
    _verb("import", _FOUND, "load pretrained weights", "weights.config:ImportConfig", "source"),
    _verb("export", _FOUND, "write a Hugging Face folder", "weights.config:ExportConfig", "run", "run"),
    _verb("classify", _TUNE, "fine-tune a classifier", "finetune.classify.classify:ClassifyConfig", "run", "run"),
    _verb("instruct", _TUNE, "fine-tune an assistant", "finetune.instruct.instruct:InstructConfig", "run", "run"),
    _verb("chat", _TUNE, "talk with the assistant", "chat.config:ChatConfig", "run"),
    _verb("explain", _INSIDE, "see attention; write the report", "inspection.config:ExplainConfig", "run", "run"),
]
# fmt: on


def call(name: str, config: Any) -> Any:
    """Run a verb on the screen and keep what it found in the folder it worked on."""
    from groundup.base.results import record_result
    from groundup.base.run import RunFolder

    verb = next(verb for verb in VERBS if verb.name == name)
    module_name, function_name = verb.view.split(":")
    view = getattr(importlib.import_module(module_name), function_name)
    if not gc.isenabled():
        gc.freeze()  # what is there now stays to the end
        gc.enable()
    result = view(config)
    if verb.home is not None:
        folder: Path = getattr(config, verb.home)
        if verb.home == "run":  # a checkpoint's results go to its run
            folder = RunFolder.of(folder).path
        record_result(folder, name, result)
    return result
