"""All that a report tells of a run: what its commands recorded, its metrics, samples and model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.config import from_mapping
from groundup.base.errors import UserError
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.run_data import data_of
from groundup.planning.memory import settings_sha256
from groundup.train.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """The records of a run."""

    run: RunFolder
    data: Path | None
    """The data folder of the run. None: `data_problem` says why it is not known."""
    data_problem: str | None
    stages: Mapping[str, Any]
    """The recorded result of each command, by its name. A plan is of this run."""
    metrics: list[dict[str, Any]]
    """The steps that have a training loss."""
    manifest: Mapping[str, Any]
    samples: dict[int, str]
    """Texts that were generated during training, by step."""
    language_model: LanguageModel | None
    """None: there is no model that can be loaded."""


def read_run(path: Path | str) -> RunResults:
    """Read the records of a run.

    Raises:
        UserError: There is no run folder, or a record is not valid.
    """
    run = RunFolder.open(path)
    stages, data, problem = read_results(run.path), None, None
    try:
        data = data_of(run)
        stages = read_results(data) | stages
    except UserError as error:
        problem = error.located
    if "plan" in stages and not _is_planned(run, stages["plan"]):
        del stages["plan"]  # it was made for another run on the same data
    try:
        language_model = load(run.path)
    except UserError:
        language_model = None
    return RunResults(
        run=run,
        data=data,
        data_problem=problem,
        stages=stages,
        metrics=run.read_metrics(names=("loss_nats",)),
        manifest=run.read_manifest(),
        samples=_samples(run),
        language_model=language_model,
    )


def _is_planned(run: RunFolder, plan: Mapping[str, Any]) -> bool:
    """Whether a plan was made for the settings of this run."""
    try:
        config = from_mapping(PretrainConfig, run.read_config(), where=run.config_path)
    except UserError:
        return False
    return bool(plan.get("settings_sha256") == settings_sha256(config))


def _samples(run: RunFolder) -> dict[int, str]:
    found = {}
    for file in sorted(run.samples.glob("step-*.txt")):
        number = file.stem.removeprefix("step-")
        if number.isdecimal():
            found[int(number)] = file.read_text(encoding="utf-8", errors="replace")
    return found
