"""The complete job: the scores, the files, and the calls that the README names."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import groundup
from groundup.base.config import from_mapping
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.cli import classify as view
from groundup.evaluation.intervals import wilson
from groundup.evaluation.paired import Difference
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.result import ClassifyResult, Comparison
from groundup.pretraining.doctor import doctor
from groundup.train.curve_checks import CHECKPOINTS, WEIGHTS


@pytest.fixture
def config(run: Path) -> ClassifyConfig:
    rows = [f"{animal}\tthe {animal} sat {i} times" for i in range(60) for animal in ("cat", "dog")]
    labels = run.parent / "animals.tsv"
    labels.write_text("\n".join([*rows, "dog\t" + "the dog sat on the log " * 20]))
    return ClassifyConfig(run=run, labels=labels, test_frac=0.3, split="random", threads=1)


def test_the_screen_the_files_and_the_calls_of_the_readme(
    config: ClassifyConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.cli.console.console.width", 80)
    result = view.run(config)
    assert result is not None
    screen = capsys.readouterr().out
    assert max(map(len, screen.splitlines()[:-1])) <= 80
    parts = ["Audit:", "73 training, 12 validation and", "majority class", "frozen model", "Saved"]
    flat = " ".join(screen.split())
    assert flat.index(parts[0]) < flat.index(parts[1]) < flat.index(parts[2])
    assert flat.index(parts[2]) < flat.index(parts[3]) < flat.index(parts[4])
    assert "1 of 121 texts are longer than 24 tokens and are cut to that length." in flat
    assert result.verdict in flat
    readme = (result.folder / "README.md").read_text()
    assert result.verdict in readme
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    exec(code)
    assert capsys.readouterr().out.strip() in ("['cat']", "['dog']")
    stored = json.loads((result.folder / "evaluation" / "scores.json").read_text())
    assert [model["name"] for model in stored["models"]] == [
        *("majority class", "word TF-IDF", "character TF-IDF", "frozen model", "frozen + TF-IDF"),
    ]
    assert sum(map(sum, stored["confusion"])) == result.n_test
    assert (result.folder / "report.html").is_file()
    assert (result.folder / "figures" / "confusion.svg").is_file()
    assert "finished_at" in json.loads((result.folder / "manifest.json").read_text())


def test_the_saved_classifier_gives_the_probabilities_of_the_test(config: ClassifyConfig) -> None:
    result = classify(config)
    moved = config.labels and Path(config.labels).parent / "moved"
    assert moved
    shutil.move(result.folder, moved)
    shutil.rmtree(str(config.run))
    loaded = groundup.load_classifier(moved)
    found = loaded.probabilities([p.text for p in result.predictions]).numpy()
    expected = [p.probability for p in result.predictions]
    np.testing.assert_allclose(found.max(axis=1), expected, atol=1e-6)
    assert [loaded.names[k] for k in found.argmax(axis=1)] == [
        p.predicted for p in result.predictions
    ]


def test_a_second_run_reads_the_hidden_states(config: ClassifyConfig) -> None:
    seen: list[int] = []
    first = classify(config, on_tokens=lambda done, total: seen.append(total))
    assert seen
    seen.clear()
    again = classify(
        dataclasses.replace(config, seed=1, balance="weighted"),
        on_tokens=lambda done, total: seen.append(total),
    )
    assert not seen, "another split of the same texts"
    assert again.folder.name == "classifier-2"
    assert first.n_test == again.n_test


def test_an_interrupted_command_continues(config: ClassifyConfig) -> None:
    def stop(done: int, total: int) -> None:
        seen.append(total - done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        classify(config, on_tokens=stop)
    assert config.run is not None
    assert not (config.run / "classifier").exists()
    left = seen[-1]
    seen.clear()
    classify(config, on_tokens=lambda done, total: seen.append(total))
    assert set(seen) == {left}


def test_the_texts_are_reported_before_the_model_is_loaded(config: ClassifyConfig) -> None:
    def stop(examples: Examples) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(dataclasses.replace(config, device="cuda"), on_examples=stop)


def test_from_a_checkpoint_the_classifier_goes_to_the_run(config: ClassifyConfig) -> None:
    assert config.run is not None
    checkpoint = config.run / "checkpoints" / "step-000001"
    result = classify(dataclasses.replace(config, run=checkpoint))
    assert result.folder == config.run / "classifier"
    assert not (checkpoint / "classifier").exists()


def test_without_a_validation_set_nothing_is_calibrated(config: ClassifyConfig) -> None:
    result = classify(dataclasses.replace(config, validation_frac=0.0))
    assert result.model is not None
    assert result.model.calibration is None
    assert not result.warnings


def test_three_classes_and_one_that_is_not_tested(config: ClassifyConfig) -> None:
    labels = Path(str(config.labels))
    rows = labels.read_text() + "".join(f"\nbird\tthe bird sat {i} times" for i in range(60))
    labels.write_text("label\ttext\n" + rows)
    test = labels.with_name("test.tsv")
    test.write_text("label\ttext\ncat\tthe cat sat a lot\ndog\tthe dog sat a lot\n")
    result = classify(dataclasses.replace(config, test=test))
    assert not result.warnings
    assert result.names == ("bird", "cat", "dog")
    assert "too few to compare" in result.verdict


def verdict(method: str, mean: float, low: float, high: float) -> str:
    loss = Difference(mean=mean, low=low, high=high, n=100)
    comparison = Comparison(
        model="LoRA model" if method == "lora" else "frozen model",
        other="frozen model" if method == "lora" else "character TF-IDF",
        log_loss_nats=loss, accuracy=loss, no_near_log_loss_nats=None,
    )  # fmt: skip
    result = ClassifyResult(
        folder=Path("a"), method=method, source="", names=("a", "b"), n_train=9, n_validation=0,
        n_test=100, audit="", n_cut=0, max_tokens=9, comparisons=[comparison],
    )  # fmt: skip
    return result.verdict


def test_the_verdict_can_say_no() -> None:
    assert "TF-IDF is the cheaper choice" in verdict("frozen", 0.1, 0.05, 0.2)
    assert "TF-IDF is the cheaper choice" in verdict("frozen", -0.1, -0.2, 0.1)
    assert "cheaper" not in verdict("frozen", -0.1, -0.2, -0.05)
    assert "Tuning was not worth its cost" in verdict("lora", -0.1, -0.2, 0.1)
    assert "worth" not in verdict("lora", -0.1, -0.2, -0.05)
    assert wilson(3, 4).n == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_classes", 1), ("test_frac", 0.0), ("test_frac", 1.0), ("steps", 0), ("max_tokens", 0),
        ("logistic_c", 0.0), ("near_duplicate", 0.0), ("last_blocks", 0), ("split", "some"),
        ("method", "half"), ("balance", "even"), ("validation_frac", 0.9), ("test", "a.csv"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError, match=name.replace("_", ".")):
        from_mapping(ClassifyConfig, {name: value})


@pytest.mark.parametrize(
    ("method", "name", "value", "instead"),
    [
        ("frozen", "steps", 5, "all"),
        ("frozen", "learning_rate", 0.1, "all"),
        ("all", "last_blocks", 2, "last"),
        ("last", "lora_rank", 4, "lora"),
    ],
)
def test_a_setting_that_the_method_ignores_is_refused(
    method: str, name: str, value: object, instead: str
) -> None:
    with pytest.raises(UserError, match=f"{name} is set") as caught:
        replace_settings(ClassifyConfig(), method=method, **{name: value})
    assert caught.value.settings == {"method": instead}
    assert replace_settings(ClassifyConfig(), method=instead, **{name: value}).method == instead


def test_doctor_checks_the_files_of_a_frozen_classifier(config: ClassifyConfig) -> None:
    folder = classify(config).folder
    diagnosis = doctor(folder)
    assert not diagnosis.findings
    assert "frozen" in diagnosis.skipped[WEIGHTS]
    head = folder / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-1])
    (finding,) = doctor(folder).findings
    assert (finding.rule, "checksum" in finding.message) == (CHECKPOINTS, True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"labels": "a.csv", "n_classes": 9}, "n_classes is set, but labels is set"),
        ({"labels": "a.csv", "split": "book", "test_frac": 0.5}, "test_frac is set, but split is"),
    ],
)
def test_a_setting_of_other_sets_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_mapping(ClassifyConfig, values)


def test_a_split_column_and_a_file_of_test_texts_are_refused() -> None:
    for name in ("test", "validation"):
        with pytest.raises(UserError, match="the column names the part of each row"):
            from_mapping(ClassifyConfig, {"labels": "a.csv", "split_column": "p", name: "b.csv"})


@pytest.mark.parametrize("method", ["frozen", "lora", "last"])
def test_the_cost_is_measured_and_nothing_is_written(
    method: str, config: ClassifyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path(str(config.run)).rglob("*"))
    planned = replace_settings(config, method=method, plan_only=True)
    if method == "last":
        planned = replace_settings(planned, last_blocks=1)
    with pytest.raises(UserError, match="The function plan_classify"):
        classify(planned)
    assert view.run(planned) is None
    screen = " ".join(capsys.readouterr().out.split())
    assert "Frozen model: 1,444 tokens of 121 texts in" in screen
    assert ("trained parameters" in screen) is (method != "frozen")
    assert sorted(Path(str(config.run)).rglob("*")) == before
