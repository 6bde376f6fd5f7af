"""The measured time of a step, and what a budget leaves for steps."""

import time
from pathlib import Path

import pytest
from small_runs import settings

from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.planning.throughput import probe
from groundup.pretraining.job import pretraining_job
from groundup.train.build import prepare_training, validation_sets
from groundup.train.data import open_data, with_vocabulary

pytestmark = pytest.mark.alone


def test_a_long_warmup_is_measured_although_the_number_of_steps_is_unknown(data: Path) -> None:
    config = with_vocabulary(settings(data), open_data(data))
    config = replace_settings(config, schedule="cosine", warmup_steps=1000)
    assert probe(config, open_data(data), 0.05).step_s > 0


def test_a_validation_takes_no_more_than_all_windows(data: Path) -> None:
    config = settings(data, budget="60s", validation_windows=10**6)
    setup = prepare_training(config, open_data(data))
    n = sum(map(len, validation_sets(setup.config, setup.data)))
    job = pretraining_job(setup, RunFolder(config.out), time.monotonic())
    assert job.time_for_steps is not None
    left_s = job.time_for_steps(0.1 * min(n, config.batch_size))  # 0.1 s per window
    assert left_s == pytest.approx(60 - 1.5 - 0.1 * n, abs=0.5)
