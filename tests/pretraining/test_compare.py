import json
import sys
from pathlib import Path

import pytest
from peers import peer
from small_runs import TEXT, KilledError, kill_at, make_data, settings

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.files import read_json, write_json
from groundup.base.run import RunFolder
from groundup.cli.console import console
from groundup.cli.main import main
from groundup.pretraining.compare import CompareConfig, compare
from groundup.pretraining.pretrain import pretrain
from groundup.train.curves import draw_curves


def test_compares_settings_curves_and_results(data):
    first = pretrain(settings(data)).run
    with pytest.raises(KilledError):
        pretrain(settings(data, steps=8, seed=1), kill_at(7))
    second = data.parent / "run-2"
    again = pretrain(settings(data)).run
    out = data.parent / "compare.svg"
    result = compare(CompareConfig(runs=(str(first), str(second)), out=out))
    assert result.differences == {"steps": ("12", "8"), "seed": ("1234", "1")}
    assert result.same_until_step == 0
    assert [row.finished for row in result.rows] == [True, False]
    assert [row.n_steps for row in result.rows] == [12, 7]
    assert out.read_text().startswith("<svg")
    same = compare(CompareConfig(runs=(str(first), str(again)), out=out))
    assert same.differences == {}
    assert same.same_until_step == 12
    inside = compare(CompareConfig(runs=(str(first / "checkpoints"), str(again)), out=out))
    assert inside.same_loss
    assert [row.finished for row in inside.rows] == [True, True]


def test_one_run_or_none_is_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"There is 1 run to compare\. Two or more different runs"):
        compare(CompareConfig(runs=("run",)))
    with pytest.raises(UserError, match="1 run to compare"):
        compare(CompareConfig(runs=("run", "./run")))
    with pytest.raises(UserError, match="named twice"):
        compare(CompareConfig(runs=("run", "other", "run")))
    with pytest.raises(UserError, match="no run folder"):
        compare(CompareConfig(runs=("nowhere", "elsewhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="This is not a pretraining run"):
        compare(CompareConfig(runs=(str(tmp_path / "empty"), str(data))))
    run = pretrain(settings(data)).run
    (tmp_path / "empty" / "config.toml").write_text("")
    with pytest.raises(UserError, match="no step"):
        compare(CompareConfig(runs=(str(run), str(tmp_path / "empty"))))


@pytest.fixture(autouse=True)
def _wide_screen(monkeypatch):
    """No path is broken at the end of a line."""
    monkeypatch.setattr(console, "width", 500)


def evaluated(run: Path, bits_per_byte: float, **others) -> None:
    best = RunFolder(run).best()
    assert best is not None
    result = {"checkpoint": best.name, "documents": "stream", "n_bytes": 300, **others}
    write_json(run / "results" / "evaluate.json", {**result, "bits_per_byte": bits_per_byte})


def made_of(run: Path, checksum: str) -> None:
    """The data of the run has a corpus, with this checksum of its validation set."""
    manifest = read_json(run / "manifest.json")
    corpus = {"train.jsonl": "t", "validation.jsonl": checksum}
    write_json(run / "manifest.json", {**manifest, "corpus_sha256": corpus})


def recommended(capsys, *runs: Path) -> str:
    """What the view says last: which is the best, and the next command."""
    capsys.readouterr()
    out = runs[0].parent / "compare.svg"
    assert main(["compare", *map(str, runs), "-o", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    return said[said.index("compare.svg") + len("compare.svg") :]


def test_nats_of_different_vocabularies_name_no_best(data, capsys):
    first = pretrain(settings(data)).run
    other = make_data(data.parent / "other", TEXT + "XYZ", TEXT[:300])
    second = pretrain(settings(other, out=data.parent / "second")).run
    runs = (first, second)
    for run in runs:
        made_of(run, "a")
    result = compare(CompareConfig(runs=tuple(map(str, runs)), out=data.parent / "c.svg"))
    assert not result.same_vocabulary
    assert result.best is None
    evaluated(first, 2.0)
    said = recommended(capsys, *runs)
    assert "losses in nats/token cannot be compared" in said
    assert "vocabularies differ" in said
    assert f"on the same bytes: {second}." in said
    assert said.endswith(f"next: groundup evaluate {second}")
    evaluated(second, 1.5)
    assert f"The best run by bits per byte is {second}." in recommended(capsys, *runs)


def test_as_many_tokens_are_not_the_same_vocabulary(data):
    first = pretrain(settings(data)).run
    words = TEXT.replace("q", "Q")
    other = make_data(data.parent / "other", words, words[:300])
    second = pretrain(settings(other, out=data.parent / "second")).run
    runs = (str(first), str(second))
    result = compare(CompareConfig(runs=runs, out=data.parent / "c.svg"))
    assert result.differences.keys() == {"data"}
    assert not result.same_vocabulary


def test_equal_vocabularies_are_told_apart_by_the_held_out_loss(data, capsys):
    first = pretrain(settings(data)).run
    second = data.parent / "run-2"
    with pytest.raises(KilledError):
        pretrain(settings(data, steps=30, validate_every=None), kill_at(25))
    assert second.is_dir()
    # The second's last batch is below the first's held-out loss, and was never held out.
    rows = [json.loads(line) for line in (second / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {"loss_nats": 0.01} for row in rows]
    (second / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = compare(CompareConfig(runs=(str(second), str(first)), out=data.parent / "c.svg"))
    assert result.same_vocabulary
    assert result.best is not None
    assert result.best.name == str(first)
    evaluated(first, 9.0)
    evaluated(second, 1.0)
    assert recommended(capsys, first, second).endswith(f"next: groundup generate {second}")


@pytest.mark.parametrize(
    "others", [{"checkpoint": "step-000005"}, {"documents": "isolated"}, {"n_bytes": 299}]
)
def test_bits_of_other_weights_or_bytes_are_not_compared(data, capsys, others):
    runs = [pretrain(settings(data, batch_size=n)).run for n in (4, 3)]
    evaluated(runs[0], 2.0)
    evaluated(runs[1], 1.0)
    assert f"by bits per byte is {runs[1]}" in recommended(capsys, *runs)
    evaluated(runs[1], 1.0, **others)
    result = compare([str(run) for run in runs], out=data.parent / "c.svg")
    assert result.rows[1].bits_per_byte is None
    assert (result.rows[0].bits_per_byte is None) == ("checkpoint" not in others)
    assert "The best run by validation loss is" in recommended(capsys, *runs)


def test_of_different_held_out_texts_none_is_the_best(data, capsys):
    first = pretrain(settings(data)).run
    second = pretrain(settings(data, out=data.parent / "second", batch_size=3)).run
    for run, checksum in ((first, "a"), (second, "b")):
        evaluated(run, 1.0)
        made_of(run, checksum)
    assert "These runs have different validation sets" in recommended(capsys, first, second)


def test_without_a_corpus_the_validation_tokens_are_compared(data):
    first = pretrain(settings(data)).run
    other = make_data(data.parent / "other", TEXT, TEXT[:200])
    again = make_data(data.parent / "again", TEXT * 2)
    for folder, is_same in ((other, False), (again, True)):
        second = pretrain(settings(folder, out=data.parent / f"run-{folder.name}")).run
        result = compare([str(first), str(second)], out=data.parent / "c.svg")
        assert (result.same_vocabulary, result.same_loss) == (True, is_same)


def test_the_order_of_a_mixture_does_not_matter(data):
    others = [
        make_data(data.parent / name, validation=TEXT[: 40 * n]) for n, name in ((3, "b"), (4, "c"))
    ]
    texts, runs = [f"{data}=0.1", f"{others[0]}=0.2", f"{others[1]}=0.3"], []
    for number, mix in enumerate((texts, texts[::-1], [*texts[:2], f"{others[1]}=0.4"])):
        config = replace_settings(
            settings(data, out=data.parent / f"run-{number}"), mix=tuple(mix), data=Path("data")
        )
        runs.append(str(pretrain(config).run))
    assert compare(runs[:2], out=data.parent / "c.svg").same_loss
    assert not compare(runs[1:], out=data.parent / "c.svg").same_loss


def test_a_file_that_is_no_picture_is_not_written_over(data, tmp_path):
    first = pretrain(settings(data)).run
    again = pretrain(settings(data)).run
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt: .*is not an SVG plot"):
        compare(CompareConfig(runs=(str(first), str(again)), out=notes))
    assert notes.read_text() == "mine"


def test_invalid_lines_of_metrics_are_passed_over(data, tmp_path):
    first = pretrain(settings(data)).run
    again = pretrain(settings(data)).run
    with open(again / "metrics.jsonl", "a") as file:
        file.write('{"step": 13}\n{"step": "x", "loss_nats": null}\n')
    result = compare(CompareConfig(runs=(str(first), str(again)), out=tmp_path / "c.svg"))
    assert result.same_until_step == 12
    assert [row.n_steps for row in result.rows] == [12, 12]


def test_many_steps_are_thinned_and_nothing_is_drawn_of_nothing():
    rows = [{"step": k, "loss_nats": 1 / k, "learning_rate": 1.0} for k in range(1, 20_001)]
    assert len(draw_curves({"long": rows})) < 60_000
    assert draw_curves({"empty": []}).startswith("<svg")


def test_the_run_draws_its_curves_and_writes_for_tensorboard(data):
    accumulator = peer("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(KilledError):
        pretrain(settings(data, tensorboard=True), kill_at(7))
    run = pretrain(settings(data, tensorboard=True)).run
    assert (run / "figures" / "loss.svg").read_text().startswith("<svg")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("loss_nats")]
    assert steps == list(range(1, 13))


def test_without_the_extra_the_line_to_type_is_told(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"-c constraints.txt -e '.\[tensorboard\]'"):
        pretrain(settings(data, tensorboard=True))
