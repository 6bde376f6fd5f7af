"""Mistakes as a person makes them: one clear line that says what to type, nothing left behind."""

import json
import os
from pathlib import Path

import pytest

from groundup.cli.main import main

WORDS = "Sing, O goddess, the anger of Achilles son of Peleus. " * 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("short.txt").write_text("To be, or not to be")
    Path("words.txt").write_text(WORDS)
    Path("binary.dat").write_bytes(bytes(range(256)) * 40)
    Path("latin.txt").write_bytes("Grüße".encode("latin-1") * 100)
    Path("none").mkdir()
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    assert main(list(arguments)) == status
    captured = capsys.readouterr()
    assert captured.err.count("error:") == 1
    assert len(captured.err.strip().splitlines()) == 1
    assert "Traceback" not in captured.out + captured.err
    return captured.err


@pytest.mark.parametrize("verb", ["story", "prepare"])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("empty.txt", "empty"),
        ("missing.txt", "no such file"),
        ("none", "no text file"),
        ("binary.dat", "binary"),
        ("latin.txt", "--encoding latin-1"),
    ],
)
def test_a_text_that_cannot_be_read(
    verb: str, source: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, verb, source)
    assert words in message
    assert source in message
    assert not Path("data").exists()
    assert list(Path("runs").glob("*")) == []


def test_a_text_too_short_for_a_story(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2,000 or more" in fails(capsys, "story", "short.txt")
    assert list(Path("runs").glob("*")) == []


def test_no_option_is_suggested_that_the_command_lacks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("little.txt").write_text("a" * 2300)
    message = fails(capsys, "story", "little.txt", "--train-time", "1s")
    assert "tokens" in message
    assert "Try:" not in message  # a story has no --context-length


def test_a_text_too_short_for_the_window(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "short.txt"]) == 0
    assert main(["train-tokenizer", "--vocab-size", "270"]) == 0
    capsys.readouterr()
    message = fails(capsys, "windows", "--context-length", "64")
    assert "--context-length" in message
    assert "tokens" in fails(capsys, "pretrain")
    assert not Path("runs/pretrain/checkpoints").exists()


def test_one_line_of_10_megabytes_is_prepared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("line.txt").write_bytes(b"x" * 10_000_000)
    assert main(["prepare", "line.txt"]) == 0
    assert "9,000,000" in capsys.readouterr().out, "nine tenths of the one line train"


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="root may write all")
@pytest.mark.parametrize("verb", ["prepare", "story"])
def test_an_output_that_cannot_be_written(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # /proc refuses even root.
    assert "/proc/groundup" in fails(capsys, verb, "words.txt", "--out", "/proc/groundup/x")


def test_a_file_where_a_folder_should_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "prepare", "words.txt", "-o", "words.txt")
    assert "words.txt" in message
    assert Path("words.txt").read_text() == WORDS


@pytest.mark.parametrize(
    "verb", ["evaluate", "generate", "export", "classify", "instruct", "chat", "explain"]
)
def test_a_run_that_is_not_there(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "runs/none" in fails(capsys, verb, "runs/none")
    assert fails(capsys, verb, "none")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "--sede", "3"], "Did you mean --seed?"),
        (["pretrain", "--lr", "3"], "Did you mean --learning-rate?"),
        (["pretrain", "--n-micro-batch", "3"], "Unknown option"),
        (["pretrain", "--zzz", "3"], "Unknown option --zzz. Try: groundup pretrain --help"),
        (["pretrain", "--resume"], "resumed by the same command"),
        (["pretrain", "--vocab-size", "9"], "train-tokenizer"),
        (
            ["pretrain", "--seed", "1.5"],
            "--seed is '1.5'. A whole number of at least 0",
        ),
        (["pretrain", "--n-heads", "none"], "--n-heads is 'none'"),
        (["pretrain", "--steps"], "--steps needs a value"),
        (["pretrain", "--steps", "1", "--steps", "2"], "--steps is given twice"),
        (["pretrain", "data", "more"], "The argument more is not expected"),
        (["pretrain", "--learning-rate", "nan"], "learning_rate is nan"),
        (["pretrain", "--deterministic=perhaps"], "True or false is expected"),
        (["pretrain", "--compile=perhaps"], "auto"),
        (["prepare", "--seed", "many"], "seed"),
        (["pretrain", "--optimizer", "adamwx"], "adamw"),
        (["pretrain", "--recipe", "missing.toml"], "missing.toml"),
        (["stroy"], "story"),
        (["evaluate", "--batch-size", "0"], "batch_size is 0"),
        (["evaluate", "--stride", "-3"], "stride is -3"),
        (["generate", "--samples", "0"], "samples is 0. A whole number of at least 1"),
        (["generate", "--top-p", "2"], "top_p is 2.0. A number above 0 and at most 1, or none,"),
        (["chat", "--temperature", "-1"], "temperature is -1.0"),
        (["classify", "--n-classes", "1"], "n_classes is 1. A whole number of at least 2"),
        (["instruct", "--embedding-learning-rate", "0"], "embedding_learning_rate is 0.0"),
        (["instruct", "--table-learning-rate", "0"], "embedding_learning_rate is 0.0"),
        (["ledger", "--context-length", "0"], "context_length is 0"),
        (["prepare", "--validation-frac", "2"], "validation_frac is 2.0"),
        (["pretrain", "--documents", "packd"], "stream, isolated, packed, padded"),
        (["pretrain", "--documents", "packed", "--stride", "8"], "--stride none --coverage book"),
        (["pretrain", "--documents", "padded", "--coverage", "exact"], "so neither is expected"),
        (["pretrain", "--documents", "padded", "--budget", "1m"], "--documents packed"),
        (["pretrain", "--coverage", "all"], "book, exact"),
        (["pretrain", "--packing"], "Did you mean --documents?"),
        (["pretrain", "--mix", "a"], "mix has 'a', without a weight. Data folders with"),
        (["pretrain", "--mix", "a=3,"], "mix has '', without a weight"),
        (["pretrain", "--mix", "a=0,b=1"], "mix gives a the weight '0'. A number above 0"),
        (["pretrain", "--mix", "a=1,b=-2"], "mix gives b the weight '-2'. A number above 0"),
        (["pretrain", "--mix", "a=1", "b=nan"], "mix gives b the weight 'nan'"),
        (["pretrain", "--mix", "a=1,b=1,./a=2"], "mix names ./a twice"),
        (["pretrain", "more", "--mix", "a=1,b=1"], "mix names the data folders, and data is more"),
        (["evaluate", "--documents", "each"], "stream, isolated, packed, padded"),
        (["evaluate", ""], "--run is an empty string, as from a variable of the shell"),
        (["prepare", "a.txt", "--out="], "--out is an empty string"),
        (["pretrain", "--steps", "1", "-o", ""], "-o is an empty string"),
    ],
)
def test_an_option_that_is_wrong(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in fails(capsys, *arguments, status=2)


def test_a_recipe_that_is_wrong_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.toml").write_text("[optimizer]\nlearning_rate = -1.0\n")
    assert "r.toml: learning_rate is -1.0" in fails(capsys, "pretrain", "r.toml", status=2)
    message = fails(capsys, "pretrain", "--config", "r.toml", "--learning-rate", "-2", status=2)
    assert "learning_rate" in message
    Path("r.toml").write_text("[optimizer]\nlearning_rat = 1.0\n")
    message = fails(capsys, "pretrain", "r.toml", status=2)
    assert "r.toml: Unknown setting 'learning_rat'. Did you mean 'learning_rate'?" in message


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A model of a few steps."""
    shape = "--context-length 32 --d-model 32 --n-layers 1 --n-heads 2"
    assert main(["prepare", "words.txt"]) == 0
    assert main(["train-tokenizer", "--vocab-size", "270"]) == 0
    assert main(["pretrain", "--steps", "2", *shape.split(), "--sample-every", "0"]) == 0
    capsys.readouterr()
    return Path("runs/pretrain")


def test_labels_that_teach_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.tsv").write_text("ham\thello\nham\tgood morning\nham\tbye\n")
    assert "ham" in fails(capsys, "classify", str(run), "--labels", "one.tsv", status=2)
    Path("columns.tsv").write_text("only one column\nand no label\n")
    message = fails(capsys, "classify", str(run), "--labels", "columns.tsv", status=2)
    assert "columns.tsv" in message
    assert "column" in message
    assert not (run / "classifier").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"instruction": "a", "output": "b"}, {"instruction": "c"}]', ["2", "output"]),
        (
            '[{"instruction": "a", "output": "b"}, {"instruction": "c", "output": 7}]',
            ["2", "the number 7"],
        ),
        ('{"instruction": "a"', ["JSON"]),
        ("[]", ["record"]),
        (json.dumps(["text"]), ["1"]),
    ],
)
def test_instructions_that_are_malformed(
    content: str, words: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("records.json").write_text(content)
    message = fails(capsys, "instruct", str(run), "--records", "records.json", status=2)
    assert all(word in message for word in ["records.json", *words]), message
    assert not (run / "assistant").exists()


@pytest.mark.parametrize("verb", ["evaluate", "generate"])
@pytest.mark.parametrize("content", ["null", "[]"])
def test_a_manifest_or_a_model_that_holds_nothing(
    verb: str, content: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = run / "manifest.json"
    before = manifest.read_text()
    manifest.write_text(content)
    if verb == "evaluate":
        assert "does not record which data" in fails(capsys, verb, str(run))
    else:
        assert main([verb, str(run), "--samples", "1", "--prompt", "Sing"]) == 0
        capsys.readouterr()
    manifest.write_text(before)
    for checkpoint in (run / "checkpoints").glob("step-*"):
        (checkpoint / "model.json").write_text(content)
    assert "model.json" in fails(capsys, verb, str(run))
