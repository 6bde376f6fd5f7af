"""The complete job: train, test, save, and load again by the call that the README names."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from small_runs import KilledError, kill_at

from groundup.base.config import from_mapping
from groundup.base.errors import UserError
from groundup.cli import classify as view
from groundup.evaluation.intervals import wilson
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.result import compare


@pytest.fixture
def config(run: Path) -> ClassifyConfig:
    rows = [f"{animal}\tthe {animal} sat {i} times" for i in range(12) for animal in ("cat", "dog")]
    labels = run.parent / "animals.tsv"
    labels.write_text("\n".join([*rows, "dog\t" + "the dog sat on the log " * 20]))
    return ClassifyConfig(run=run, labels=labels, steps=12, batch_size=4, threads=1)


def test_the_readme_loads_the_classifier(
    config: ClassifyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    result = view.run(config)
    screen = capsys.readouterr().out
    assert "Training set: 19 texts. Test set: 6 texts. Classes: 2." in screen
    assert "1 of 25 texts are longer than 24 tokens and are cut to that length." in screen
    assert result.verdict in " ".join(screen.split())
    readme = (result.folder / "README.md").read_text()
    assert str(result.accuracy) in readme
    assert "interrupted, it starts again from the\nbeginning" in readme
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert f"load_classifier('{config.run}/classifier')" in code
    exec(code)
    printed = capsys.readouterr().out
    assert printed.strip() in ("['cat']", "['dog']")
    metrics = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == list(range(1, 13))
    stored = json.loads((result.folder / "evaluation" / "accuracy.json").read_text())
    assert stored["tuned_model"]["n_right"] == result.accuracy.n_right
    assert sum(map(sum, stored["confusion"])) == 6


def test_an_interrupted_job_leaves_nothing(config: ClassifyConfig) -> None:
    assert config.run is not None
    with pytest.raises(KilledError):
        classify(config, on_step=kill_at(5))
    assert not (config.run / "classifier").exists()
    assert [step.step for step in classify(config).steps] == list(range(1, 13))


def test_from_a_checkpoint_the_classifier_goes_to_the_run(config: ClassifyConfig) -> None:
    assert config.run is not None
    checkpoint = config.run / "checkpoints" / "step-000001"
    result = classify(dataclasses.replace(config, run=checkpoint, steps=1))
    assert result.folder == config.run / "classifier"
    assert not (checkpoint / "classifier").exists()


def test_the_verdict_considers_the_intervals() -> None:
    low, middle, high = wilson(20, 100), wilson(48, 100), wilson(80, 100)
    assert "bag of words is better than" in compare(low, high)
    assert "fine-tuned model is better than" in compare(high, low)
    assert compare(middle, middle).startswith("Both have the same accuracy.")
    assert compare(wilson(50, 100), middle).startswith("The fine-tuned model has the higher")
    assert compare(middle, wilson(50, 100)).startswith("The bag of words has the higher")


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_classes", 1), ("test_frac", 0.0), ("test_frac", 1.0), ("steps", 0), ("max_tokens", 0)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name.replace("_", ".")):
        from_mapping(ClassifyConfig, {name: value})
