"""Cross-validation: every pair is tested once, by a model that was not trained on it.

One split has too few test pairs to separate two good models. Near duplicates of a prompt stay in
one fold. Each fold starts from the same assistant; a fold that is done is not trained again.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.encoding import EncodedPair
from groundup.alignment.prefer.evaluation import PreferenceReport
from groundup.alignment.prefer.job import PreferenceJob
from groundup.alignment.prefer.split import PairSplit
from groundup.base.errors import UserError
from groundup.base.files import read_json, write_json
from groundup.base.run import RunFolder
from groundup.finetune.foundation import open_foundation
from groundup.finetune.training import OnStep, fine_tune
from groundup.records.splits import folds, require_sets, split
from groundup.text.near_duplicates import PROMPT_RULE, group_near_duplicates

_SCORES = "scores.json"


@dataclass(frozen=True)
class _Fold:
    """The scores of the test pairs of a fold."""

    report: PreferenceReport
    distinct: list[int]


def split_folds(pairs: Sequence[EncodedPair], config: PreferConfig) -> list[PairSplit]:
    """Make one split for each fold, which is its test set.

    Raises:
        UsageError: There are too few groups of near duplicates, or they leave a set empty.
    """
    assert config.folds is not None
    group = group_near_duplicates([pair.pair.prompt for pair in pairs], PROMPT_RULE).group
    sets = []
    for test in folds(None, group, config.folds, config.seed):
        rest = sorted(set(range(len(pairs))) - set(test))
        parts = split(
            None,
            [group[i] for i in rest],
            test_frac=config.validation_frac,
            validation_frac=0.0,
            seed=config.seed,
        )
        require_sets(parts, validation=False)  # what is drawn here are the pairs to validate on
        train, validation = ([pairs[rest[i]] for i in some] for some in (parts.train, parts.test))
        sets.append(PairSplit(train, validation, [pairs[i] for i in test]))
    return sets


def cross_validate(
    config: PreferConfig,
    start: Path,
    pairs: Sequence[EncodedPair],
    every: Sequence[PairSplit],
    run: RunFolder,
    *,
    on_step: OnStep | None = None,
    on_training: Callable[[str], None] | None = None,
) -> tuple[PreferenceReport, PreferenceReport | None]:
    """Train and test a model for each fold, and join the scores.

    Args:
        config: The settings.
        start: The assistant.
        pairs: All pairs.
        every: The sets of each fold.
        run: The run folder, which has the reference log-probabilities.
        on_step: Called after each optimizer step.
        on_training: Called with the name of each training that begins.

    Returns:
        The report of all pairs, and of those without a near duplicate in their training set.
    """
    done = []
    for number, sets in enumerate(every, 1):
        if on_training is not None:
            on_training(f"fold {number} of {len(every)}")
        foundation = open_foundation(start, device=config.device, threads=config.threads)
        job = PreferenceJob(config, foundation, pairs, sets)
        job.prepare_reference(run, [])
        folder = RunFolder(run.path / "folds" / f"fold-{number}")
        done.append(_tested(job, folder, on_step))
    report = PreferenceReport.joined([fold.report for fold in done])
    distinct = [fold.report.only(fold.distinct) for fold in done if fold.distinct]
    return report, PreferenceReport.joined(distinct) if distinct else None


def _tested(job: PreferenceJob, folder: RunFolder, on_step: OnStep | None) -> _Fold:
    tuning = job.tuning()
    stored = _stored(folder.path / _SCORES, tuning.identity)
    if stored is not None:
        return stored
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_config(job.config)
    fine_tune(tuning, folder, on_step=on_step)
    report, _ = job.report()
    fold = _Fold(report, job.sets.distinct())
    write_json(
        folder.path / _SCORES,
        {
            "identity": tuning.identity,
            "scores": {name: scores.tolist() for name, scores in report.scores.items()},
            "log_ratios_nats": report.log_ratios.tolist(),
            "no_near_duplicate": fold.distinct,
        },
    )
    shutil.rmtree(folder.checkpoints_path, ignore_errors=True)
    return fold


def _stored(path: Path, identity: str) -> _Fold | None:
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["identity"] != identity:
            return None
        scores = {name: np.array(values) for name, values in found["scores"].items()}
        report = PreferenceReport(
            scores=scores, log_ratios=np.array(found["log_ratios_nats"]).reshape(-1, 2)
        )
    except (UserError, KeyError, TypeError, ValueError):
        return None
    return _Fold(report, found["no_near_duplicate"])
