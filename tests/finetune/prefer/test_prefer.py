"""The complete job: train on pairs, test beside the baselines, and save an assistant."""

import json

import pytest

from groundup.cli import prefer as view
from groundup.evaluation.load import load
from groundup.finetune.prefer.config import PreferConfig


def test_the_assistant_learns_the_preference_and_loads(
    config: PreferConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    result = view.run(config)
    screen = " ".join(capsys.readouterr().out.split())
    print(screen)
    assert result.report is not None
    assert result.report.shares["tuned model"].n_right == 30
    assert result.report.margin_nats.mean > 0
    assert config.run is not None
    assert result.folder == config.run.parent / "preferred"
    stored = json.loads((result.folder / "evaluation" / "preferences.json").read_text())
    assert stored["all"]["accuracy"]["tuned model"]["n_right"] == 30
    loaded = load(result.folder)
    assert loaded.is_assistant
    readme = (result.folder / "README.md").read_text()
    assert f"groundup chat '{result.folder}'" in readme
