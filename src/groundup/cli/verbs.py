"""The commands, in roadmap order: the one place that knows which package serves which command."""

import gc
import importlib
import sys
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Verb:
    """One command."""

    name: str
    stage: str
    help: str
    config: str
    """Its config class, as "module:Class"."""
    view: str
    """The function that runs it and prints the result, as "module:function"."""
    positional: str | None = None
    """The setting that is given without the name of an option."""
    home: str | None = None
    """The setting, or property, that names the folder where the result is recorded. None: it is not
    recorded."""
    writes: str | None = None
    """The setting that names where its main result is written; it is checked before the start."""
    takes_given: bool = False
    """Whether the view gets the names of the settings that were given explicitly."""
    requires: Literal["model", "training", "assistant", "classifier"] = "model"
    """What it needs of the newest run, which it takes where no run is given."""
    is_check: bool = False
    """Whether it fails where its result has findings."""
    resumable: bool = False
    """Whether the same command continues after it was interrupted."""
    resumable_with: str | None = None
    """The setting with which it does; without it, it starts again."""

    def config_class(self) -> Any:
        """Import the config class."""
        module_name, class_name = self.config.split(":")
        return getattr(importlib.import_module(module_name), class_name)


_ALL, _BUILD, _FOUND = "End to end", "1 Build the LLM", "2 Foundation model"
_TUNE, _INSIDE = "3 Fine-tuning", "Look inside"


def _verb(
    name: str,
    stage: str,
    help: str,
    config: str,
    positional: str,
    home: str | None = None,
    **more: Any,
) -> Verb:
    module = name.replace("-", "_") + ("_" if name == "import" else "")
    view = f"groundup.cli.{module}:run"
    return Verb(name, stage, help, f"groundup.{config}", view, positional, home, **more)


# fmt: off
# ruff: noqa: E501
VERBS = [
    _verb("story", _ALL, "Run all stages on one text.", "story.config:StoryConfig", "sources", resumable=True, writes="out"),
    _verb("prepare", _BUILD, "Read, split and audit documents.", "data.config:PrepareAndEncodeConfig", "sources", "out", writes="out"),
    _verb("verify", _BUILD, "Check every file of a data folder against its checksum.", "data.config:VerifyConfig", "data"),
    _verb("train-tokenizer", _BUILD, "Train a tokenizer and encode the corpus with it.", "data.config:TrainAndEncodeConfig", "data", "data", writes="data"),
    _verb("encode", _BUILD, "Encode the corpus with a tokenizer.", "data.config:EncodeConfig", "data", "data", resumable=True, writes="data"),
    _verb("tokens", _BUILD, "Show a text as tokens.", "tokenizer.config:TokensConfig", "data"),
    _verb("windows", _BUILD, "Show input-target pairs and batches.", "data.config:WindowsConfig", "data", "data"),
    _verb("ledger", _BUILD, "Account for every token of an epoch.", "data.config:LedgerConfig", "data", "data"),
    _verb("convert", _BUILD, "Convert token files of nanoGPT, llm.c and Megatron.", "data.config:ConvertConfig", "source", writes="out"),
    _verb("plan", _FOUND, "Estimate the cost of a run before it starts.", "planning.config:PlanConfig", "data", "first_data", takes_given=True),
    _verb("pretrain", _FOUND, "Train the foundation model.", "train.config:PretrainConfig", "data", takes_given=True, resumable=True, writes="out"),
    _verb("doctor", _FOUND, "Check a run for problems.", "pretraining.config:DoctorConfig", "run", "run", requires="training", is_check=True),
    _verb("compare", _FOUND, "Compare runs.", "pretraining.config:CompareConfig", "runs"),
    _verb("evaluate", _FOUND, "Evaluate a model and compare it with baselines.", "evaluation.config:EvaluateConfig", "run", "run", resumable_with="task"),
    _verb("generate", _FOUND, "Generate text.", "evaluation.config:GenerateConfig", "run", "run"),
    _verb("import", _FOUND, "Import pretrained weights.", "weights.config:ImportConfig", "source", writes="out"),
    _verb("export", _FOUND, "Export a model to transformers, llama.cpp or nanoGPT.", "weights.config:ExportConfig", "run", "run", writes="out"),
    _verb("match", _FOUND, "Compare a model with its source or its export.", "weights.config:MatchConfig", "run", "run", is_check=True),
    _verb("audit", _TUNE, "Find duplicates, leaks and faulty rows in a file.", "records.config:AuditConfig", "file"),
    _verb("classify", _TUNE, "Train a text classifier.", "finetune.classify.config:ClassifyConfig", "run", "run", writes="out", resumable=True),
    _verb("predict", _TUNE, "Classify texts with a trained classifier.", "finetune.classify.config:PredictConfig", "run", requires="classifier"),
    _verb("instruct", _TUNE, "Fine-tune an assistant.", "finetune.instruct.config:InstructConfig", "run", "run", resumable=True, writes="out"),
    _verb("prefer", _TUNE, "Tune an assistant on preferences.", "alignment.prefer.config:PreferConfig", "run", "run", requires="assistant", resumable=True, writes="out"),
    _verb("reinforce", _TUNE, "Train a model on rewards of its own replies (GRPO).", "alignment.reinforce.config:ReinforceConfig", "run", "run", writes="out", resumable=True),
    _verb("chat", _TUNE, "Chat with the assistant, or with the cast of plays.", "chat.config:ChatConfig", "run", requires="assistant"),
    _verb("serve", _TUNE, "Serve a model: the API of OpenAI, and a page.", "serve.config:ServeConfig", "run"),
    _verb("judge", _TUNE, "Compare two sets of answers with a language model as judge.", "evaluation.judge.config:JudgeConfig", "answers", resumable=True),
    _verb("explain", _INSIDE, "Show attention and write the report.", "inspection.config:ExplainConfig", "run", "run"),
    _verb("report", _INSIDE, "Write the report of a run, and a picture of it.", "inspection.config:ReportConfig", "run", writes="out"),
]
# fmt: on


def call(
    name: str, config: Any, given: Set[str] = frozenset(), *, must_record: bool = False
) -> Any:
    """Run a command on the screen and record its result in the folder that it worked on.

    Args:
        name: The name of the command.
        config: Its settings.
        given: The names of the settings that were given explicitly.
        must_record: Whether a result that cannot be recorded is an error, and not only a warning.
    """
    from groundup.base.newest_run import newest_run
    from groundup.base.results import record_result, written_if_possible
    from groundup.base.run import RunFolder

    verb = next(verb for verb in VERBS if verb.name == name)
    module_name, function_name = verb.view.split(":")
    view = getattr(importlib.import_module(module_name), function_name)
    if not gc.isenabled():
        gc.freeze()  # all objects so far stay until the end
        gc.enable()
    if verb.positional == "run" and config.run is None:
        config = replace(config, run=newest_run(verb.requires))
        # The output of these in a pipe is the list of answers, or of labels.
        stream = sys.stderr if name in ("chat", "predict") else sys.stdout
        print(f"Using the newest run: {config.run}", file=stream)
    result = view(config, given) if verb.takes_given else view(config)
    if verb.home is not None and result is not None:
        folder: Path = getattr(config, verb.home)
        if verb.home == "run":  # a checkpoint's results go to its run
            folder = RunFolder.of(folder).path
        if must_record:
            record_result(folder, name, result)
        else:
            written_if_possible(lambda: record_result(folder, name, result))
    return result
