"""What a classifier will cost, measured on a part of its texts before anything is written."""

import time
from dataclasses import dataclass, replace

import numpy as np

from groundup.base.calling import takes_settings
from groundup.base.folder_kinds import find_run
from groundup.finetune.classify.classify import examples_of
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.features import hidden_features
from groundup.finetune.classify.lower_blocks import states_bytes
from groundup.finetune.classify.materials import gather
from groundup.finetune.classify.recipes import products_dtype
from groundup.finetune.classify.tuned import tuning_job
from groundup.finetune.foundation import open_foundation
from groundup.finetune.plan import FineTuningPlan, plan_fine_tuning

_PROBED_TOKENS = 4_000
_LEAST_RANGE = 0.15


@dataclass(frozen=True, kw_only=True)
class ClassifyPlan:
    """The cost of the frozen model, and of the training of a tuned one."""

    n_texts: int
    n_tokens: int
    """Tokens of all texts, which the frozen model reads once."""
    tokens_per_s: float
    frozen_s: tuple[float, float, float]
    """Seconds to read them: lowest, expected and highest."""
    features_bytes: int
    """Size of the hidden states in the folder of the run: of each text, and with method last of
    each token of the training set, which are in memory, too."""
    tuning: FineTuningPlan | None
    """None: the method is frozen."""


@takes_settings(ClassifyConfig, "run")
def plan_classify(config: ClassifyConfig) -> ClassifyPlan:
    """Measure the speed of the model on some texts, and estimate the cost of all.

    Raises:
        UserError: As `classify`.
    """
    config = replace(config, run=find_run(config.run), plan_only=True)
    assert config.run is not None
    examples = examples_of(config)
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    materials = gather(config, foundation, examples, products_dtype(config, foundation))
    rows = list(materials.ids.values())
    order = np.random.default_rng(0).permutation(len(rows))
    ends = np.cumsum([len(rows[k]) for k in order])
    some = [rows[k] for k in order[: int(np.searchsorted(ends, _PROBED_TOKENS)) + 1]]
    gpt = foundation.model.eval()
    hidden_features(gpt, some[:1], pooling="mean+last", dtype=materials.dtype)  # the first is slow
    started_at = time.perf_counter()
    states = hidden_features(gpt, some, pooling="mean+last", dtype=materials.dtype)
    tokens_per_s = sum(map(len, some)) / (time.perf_counter() - started_at)
    expected = sum(map(len, rows)) / tokens_per_s
    tuning, kept_bytes = None, states[0].nbytes * len(rows)
    if config.method != "frozen":
        lower = (gpt.config.n_layers - config.last_blocks) * (config.method == "last")
        train = materials.rows(examples.split.train)
        n_train = sum(map(len, train))
        if config.method == "last":
            kept_bytes += states_bytes(gpt, train, materials.dtype)
        # Before its first step, the training computes the states of the blocks below it once.
        lower_s = lower / gpt.config.n_layers * n_train / tokens_per_s
        job = tuning_job(config, materials, started_at=time.monotonic() - lower_s)
        tuning = plan_fine_tuning(job.tuning)
    return ClassifyPlan(
        n_texts=len(rows),
        n_tokens=sum(map(len, rows)),
        tokens_per_s=tokens_per_s,
        frozen_s=(expected * (1 - _LEAST_RANGE), expected, expected * (1 + 2 * _LEAST_RANGE)),
        features_bytes=kept_bytes,
        tuning=tuning,
    )
