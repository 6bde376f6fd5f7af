"""The page of a run says what is true of it."""

import dataclasses

from small_runs import settings

from groundup.pretraining.pretrain import pretrain
from groundup.pretraining.report import run_readme
from groundup.train.build import prepare_training
from groundup.train.data import open_data


def test_only_fixed_steps_are_said_to_be_repeated(data):
    config = settings(data)
    result = pretrain(config)
    setup = prepare_training(config, open_data(data))
    assert "This command repeats the run:" in run_readme(setup, result)
    setup = dataclasses.replace(setup, config=dataclasses.replace(config, budget="10s"))
    readme = run_readme(setup, result)
    assert "repeats the run" not in readme
    assert "This command repeats its settings; the budget decides the number of steps:" in readme
