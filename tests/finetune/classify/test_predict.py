"""Predictions for a text, for lines of standard input, and for the rows of files."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import peers
import pytest

from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.finetune.classify.classifier import load_classifier
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig, PredictConfig
from groundup.finetune.classify.predict import predict

TEXTS = ["the cat sat", "the dog sat on the log", 'a "quoted", text', "a cat"]


@pytest.fixture
def trained(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(run.parent)
    rows = [f"{animal}\tthe {animal} sat {i} times" for i in range(9) for animal in ("cat", "dog")]
    (run.parent / "animals.tsv").write_text("\n".join(rows))
    classify(ClassifyConfig(run=run, labels="animals.tsv", threads=1, split="random"))
    return run


def expected(run: Path) -> list[str]:
    return load_classifier(run).predict(TEXTS)


def write(name: str) -> Path:
    rows = [{"id": k, "message": text} for k, text in enumerate(TEXTS)]
    path = Path(name)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        arrow = peers.peer("pyarrow")
        peers.peer("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    elif path.suffix == ".txt":
        path.write_text("\n".join(TEXTS) + "\n")
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "message"])
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        found: list[dict[str, object]] = json.loads(path.read_text())
        return found
    if path.suffix == ".parquet":
        rows: list[dict[str, object]] = peers.peer("pyarrow.parquet").read_table(path).to_pylist()
        return rows
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_a_file_gets_labels_and_probabilities_in_its_own_format(suffix: str, trained: Path) -> None:
    file = write(f"mails{suffix}")
    seen: list[int] = []
    result = predict(
        PredictConfig(run=trained, file=file, text_column="message", threads=1, chunk_size=3),
        seen.append,
    )
    assert result.out == Path(f"mails-predicted{suffix}")
    assert seen == [3, 4]
    rows = read(result.out)
    assert [row["message"] for row in rows] == TEXTS
    assert [str(row["id"]) for row in rows] == ["0", "1", "2", "3"]
    assert [row["predicted_label"] for row in rows] == expected(trained)
    for row in rows:
        shares = [float(str(row[f"probability_{name}"])) for name in ("cat", "dog")]
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert sum(result.counts.values()) == result.n_texts == 4
    again = predict(PredictConfig(run=trained, file=file, text_column="message", threads=1))
    assert again.out == Path(f"mails-predicted-2{suffix}"), "nothing is overwritten"


def test_the_format_of_the_output_can_be_another_and_lines_are_texts(trained: Path) -> None:
    result = predict(trained, file=write("mails.txt"), out="a.jsonl", threads=1)
    assert result.out is not None
    rows = read(result.out)
    assert [row["text"] for row in rows] == TEXTS
    assert [row["predicted_label"] for row in rows] == expected(trained)


def test_white_space_is_read_as_it_is_trained(trained: Path) -> None:
    Path("a.txt").write_text("  the cat \n")
    result = predict(trained, file="a.txt", out="a.jsonl", threads=1)
    assert result.out is not None
    [row] = read(result.out)
    wanted = load_classifier(trained).probabilities(["  the cat "])[0].tolist()
    assert [row["probability_cat"], row["probability_dog"]] == pytest.approx(wanted, abs=1e-5)
    assert row["text"] == "  the cat "


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.csv", "text\nthe cat\n \nthe dog\n", "a.csv:3"),
        ("a.txt", "the cat\n\nthe dog\n", "a.txt:2"),
    ],
)
def test_a_row_without_text_keeps_its_place(
    name: str, content: str, place: str, trained: Path
) -> None:
    Path(name).write_text(content)
    result = predict(trained, file=name, threads=1)
    assert result.out is not None
    assert [bool(row["predicted_label"]) for row in read(result.out)] == [True, False, True]
    assert f"rows without text: 1 ({place})" in result.left_out.sentences()[0]


@pytest.mark.parametrize("values", [{"text": "a", "out": "a.csv"}, {"file": "a.txt", "json": True}])
def test_an_output_that_is_not_written_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="written to a file"):
        PredictConfig(**values)


def test_one_text_on_the_screen(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained), "--text", TEXTS[0], "--threads", "1"]) == 0
    screen = capsys.readouterr().out
    assert screen.index(expected(trained)[0]) < screen.index("next:")
    assert main(["predict", str(trained), "--text", TEXTS[0], "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["label"] == expected(trained)[0]
    assert found["probabilities"].keys() == {"cat", "dog"}


@pytest.mark.parametrize("words", [[], ["--file", "-"]])
def test_standard_input_is_one_text_per_line(
    words: list[str],
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "\n".join([TEXTS[0], "", *TEXTS[1:]]) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert main(["predict", str(trained), "--threads", "1", *words]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in printed] == expected(trained)
    assert [row[2] for row in printed] == TEXTS


def test_records_on_standard_input(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert main(["predict", str(trained), "--json", "--threads", "1"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in found] == TEXTS
    assert [row["label"] for row in found] == expected(trained)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", " "], "The text is empty"),
        (["--text", "a", "--file", "b.csv"], "Both text and file are set"),
        (["--file", "none.csv"], "none.csv"),
        (["--file", "two.csv"], "no column 'text'. The columns are: a, b"),
        (["--file", "two.csv", "--text-column", "c"], "'c'"),
        (["--file", "empty.csv"], "No row has a text"),
        (["--file", "two.csv", "--text-column", "a", "--out", "a.xlsx"], "is not known"),
    ],
)
def test_what_cannot_be_classified_is_one_sentence(
    words: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.csv").write_text("a,b\nx,y\n")
    Path("empty.csv").write_text("text\n \n")
    before = set(Path().iterdir())
    assert main(["predict", str(trained), "--threads", "1", *words]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert error.count("error:") == 1
    assert set(Path().iterdir()) == before, "nothing is left"


def test_a_run_without_a_classifier_names_the_command(run: Path) -> None:
    with pytest.raises(UserError, match="groundup classify"):
        predict(run, text="a")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_loses_no_field_of_a_later_row(suffix: str, trained: Path) -> None:
    peers.peer("pyarrow")
    rows = [{"text": TEXTS[0]}, {"text": TEXTS[1], "customer": "Ann"}]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"different fields .*customer") as caught:
        predict(trained, file="a.jsonl", out=f"a2{suffix}", threads=1)
    assert caught.value.settings == {"out": "a2.jsonl"}
    assert not Path(f"a2{suffix}").exists()


@pytest.mark.parametrize("verb", ["generate", "chat", "serve"])
def test_a_classifier_is_not_taken_for_a_language_model(
    trained: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = str(trained / "classifier")
    assert main([verb, classifier]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "This is a classifier. A language model is expected." in said
    assert f"Try: groundup predict '{classifier}'" in said
    assert main(["predict", classifier, "--text", "the cat sat"]) == 0
