"""The command: rewards before and after, the saved model, resuming, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from digit_reward import starts_with_digit, write_base
from killed import run_killed
from safetensors.torch import load_file

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.prompts import make_items
from groundup.alignment.reinforce.reinforce import reinforce
from groundup.alignment.reinforce.result import ReinforceResult
from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.cli.main import main
from groundup.evaluation.load import load
from groundup.finetune.plan import FineTuningPlan
from groundup.train.step import Step
from groundup.weights.adapter import load_adapter


def train(config: ReinforceConfig, **more: Any) -> ReinforceResult:
    result = reinforce(config, reward=starts_with_digit, **more)
    assert isinstance(result, ReinforceResult)
    return result


def test_the_reward_rises_and_the_model_is_saved(config: ReinforceConfig, run: Path) -> None:
    result = train(config)
    assert result.after is not None
    assert result.difference is not None
    assert 0.1 <= result.before.mean_reward <= 0.3
    assert result.after.mean_reward > 0.5
    assert result.difference.is_clear
    assert "The reward rose on the test set" in result.verdict
    assert result.n_groups == 12 * 8 > result.n_equal_groups > 0
    folder = result.folder
    assert folder == run / "reinforced"
    lines = [json.loads(line) for line in (folder / "samples/rollouts.jsonl").open()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert sum(line["n_equal_groups"] for line in lines) == result.n_equal_groups
    opened, base = load(folder), load(run)
    load_adapter(base.model, folder / "adapter")
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(opened.model(ids), base.model(ids), atol=1e-5, rtol=0)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished_at"]
    assert manifest["reward"].endswith("starts_with_digit")
    assert "mean reward on the test set" in (folder / "README.md").read_text()


def stop_at(step: int) -> Any:
    def on_step(found: Step) -> None:
        if found.step == step:
            raise KeyboardInterrupt

    return on_step


def test_an_interrupted_run_continues_to_the_same_weights(
    config: ReinforceConfig, run: Path, tmp_path: Path
) -> None:
    config = replace(config, steps=6, checkpoint_every=2, kl_weight=0.05)
    whole = train(replace(config, out=tmp_path / "whole"))
    cut = replace(config, out=tmp_path / "cut")
    for step in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(cut, on_step=stop_at(step))
    tests: list[str] = []
    resumed = train(cut, on_test=tests.append)
    assert resumed.folder == tmp_path / "cut"
    assert resumed.trained is not None
    assert resumed.trained.resumed_from_step >= 2
    assert len(tests) == 1  # the test before training was not repeated
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        a, b = load_file(whole.folder / name), load_file(resumed.folder / name)
        assert all(torch.equal(a[key], b[key]) for key in a)
    logs = [(r.folder / "samples/rollouts.jsonl").read_text() for r in (whole, resumed)]
    assert logs[0] == logs[1]
    assert whole.after == resumed.after


@pytest.mark.parametrize("n_kills", [4, pytest.param(12, marks=pytest.mark.long)])
def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, n_kills: int) -> None:
    base = write_base(tmp_path / "base")
    runs = run_killed("digit_reward:train_in", tmp_path, str(base), n_kills=n_kills, seed=3)
    names = ("model.safetensors", "adapter/adapter_model.safetensors")
    calm = tmp_path / "calm" / "tuned"
    for run in runs:
        assert not list(run.rglob("*.tmp"))
        for folder in run.glob("tuned*"):  # another one if it was killed when all was written
            assert RunFolder(folder).is_finished
            for name in names:
                a, b = load_file(calm / name), load_file(folder / name)
                assert all(torch.equal(a[key], b[key]) for key in a)
            log = "samples/rollouts.jsonl"
            assert (folder / log).read_text() == (calm / log).read_text()


def test_a_start_outside_of_the_range_is_refused(config: ReinforceConfig, run: Path) -> None:
    with pytest.raises(UserError) as error:
        reinforce(config)  # an untrained model does not add
    assert "The mean reward before training is 0.0" in error.value.message
    assert error.value.settings == {}
    with pytest.raises(UserError) as error:
        reinforce(replace(config, least_start=0.5), reward=starts_with_digit)
    assert error.value.settings == {"max_number": 11, "test_items": 33}
    settings: Any = error.value.settings
    make_items(replace(config, **settings), load(run))
    with pytest.raises(UserError, match=r"At most 0\.6 is expected"):
        reinforce(config, reward=lambda prompt, reply, answer: 1.0 + 5 * len(reply))
    assert not (run / "reinforced").exists()


def test_a_failing_reward_is_refused_before_anything_is_written(
    config: ReinforceConfig, run: Path
) -> None:
    with pytest.raises(UserError, match="returned nan for the reply"):
        reinforce(config, reward=lambda prompt, reply, answer: float("nan"))
    assert not (run / "reinforced").exists()


def test_the_cost_is_planned_with_sampling_and_nothing_is_written(
    config: ReinforceConfig, run: Path
) -> None:
    plan = reinforce(replace(config, plan_only=True), reward=starts_with_digit)
    assert isinstance(plan, FineTuningPlan)
    low, likely, high = plan.total_s
    assert 0 < 12 * plan.step_s < likely
    assert low < likely < high
    assert not (run / "reinforced").exists()


def test_a_budget_measures_steps_without_leaving_a_trace(
    config: ReinforceConfig, tmp_path: Path
) -> None:
    config = replace(config, steps=4)
    plain = train(replace(config, out=tmp_path / "plain"))
    limited = train(replace(config, out=tmp_path / "limited", budget="20m"))
    assert limited.trained is not None
    assert limited.trained.stopped_reason == "steps"
    logs = [(r.folder / "samples/rollouts.jsonl").read_text() for r in (plain, limited)]
    assert logs[0] == logs[1]
    assert plain.after == limited.after


def test_longer_or_copied_replies_are_reported(config: ReinforceConfig) -> None:
    result = train(replace(config, steps=1))
    assert result.after is not None
    longer = replace(result.after, mean_tokens=2 * result.before.mean_tokens, copied_frac=0.9)
    found = replace(result, after=longer).suspicions
    assert "The replies became longer" in found[0]
    assert "copied from the prompts" in found[1]


def test_the_command_stops_with_exit_code_2(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["reinforce", str(run), "--shots", "1", "--test-items", "30", "--threads", "1"])
    assert code == 2
    printed = capsys.readouterr()
    assert "The mean reward before training is" in printed.err
