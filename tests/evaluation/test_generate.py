"""Samples as a library function: each is handed over at once, and nothing is printed."""

import shutil
from pathlib import Path

import pytest

import groundup
from groundup.evaluation.generate import Sample

OLD = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old" / "run"


def test_samples_are_handed_over_and_checked(run: Path, capfd) -> None:
    seen: list[tuple[str, Sample]] = []
    config = groundup.GenerateConfig(run=run, samples=2, max_new_tokens=8, seed=3)
    result = groundup.generate_samples(config, lambda *each: seen.append(each))
    assert seen == [(result.prompt, sample) for sample in result.samples]
    assert len(result.prompt.split()) == 6
    assert [sample.setting.rpartition("seed ")[2] for sample in result.samples[1:]] == ["3", "4"]
    assert result.not_checked is None
    assert all(sample.recited_frac is not None for sample in result.samples)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_without_its_data_the_reason_is_given(run: Path) -> None:
    corpus = run.parent / "data" / "corpus" / "train.jsonl"
    corpus.write_bytes(b"x" + corpus.read_bytes()[1:])
    result = groundup.generate_samples(run=run, temperature=0.0, max_new_tokens=3)
    assert [sample.recited_frac for sample in result.samples] == [None]
    assert "is corrupt" in str(result.not_checked)
    shutil.rmtree(run.parent / "data")
    result = groundup.generate_samples(
        groundup.GenerateConfig(run=run, temperature=0.0, max_new_tokens=3)
    )
    assert result.prompt == ""
    assert [sample.recited_frac for sample in result.samples] == [None]
    assert result.not_checked is not None
    assert "/home/user/data" in result.not_checked
