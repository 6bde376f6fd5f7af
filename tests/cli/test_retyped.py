"""A command that was typed, printed again with another value: everything else stays."""

from pathlib import Path

import pytest

from groundup.base import errors
from groundup.base.errors import UserError, joined, quoted
from groundup.cli import console
from groundup.cli.main import main
from groundup.cli.verbs import VERBS

VERB = {verb.name: verb for verb in VERBS}


@pytest.mark.parametrize(
    ("typed", "options", "expected"),
    [
        ("evaluate R --canary a b --shots 9", "--canary x", "evaluate R --shots 9 --canary x"),
        ("evaluate --shots 9 --canary a b", "--shots 8", "evaluate --canary a b --shots 8"),
        ("pretrain data --out=-x --seed 1", "--out=-y", "pretrain data --seed 1 --out=-y"),
        ("pretrain data -o=a", "--out b", "pretrain data --out b"),
        ("pretrain data -oa", "--out b", "pretrain data --out b"),
        ("pretrain data -o a", "--out b", "pretrain data --out b"),
        ("pretrain -o=a data", "--seed 1", "pretrain data -o=a --seed 1"),
        ("plan --bias data --steps 9", "--no-bias", "plan data --steps 9 --no-bias"),
        ("plan --layer-costs 1 2 data", "", "plan --layer-costs 1 2 data"),
    ],
)
def test_another_value_of_an_option(typed: str, options: str, expected: str) -> None:
    assert console.retyped(typed.split(), options.split()) == expected.split()


@pytest.mark.parametrize(
    ("typed", "value", "expected"),
    [
        ("pretrain recipes/x.toml", "data", "pretrain data --config recipes/x.toml"),
        ("pretrain --seed 1 x.toml", "data", "pretrain data --config x.toml --seed 1"),
        ("pretrain --config r.toml a.toml", "data", "pretrain data --config r.toml"),
        ("pretrain missing --recipe r.toml", "data", "pretrain data --recipe r.toml"),
        ("pretrain --recipe r.toml missing", "data", "pretrain data --recipe r.toml"),
        ("pretrain missing -o=runs/a --seed 1", "data", "pretrain data -o=runs/a --seed 1"),
        ("pretrain -oruns/a missing", "data", "pretrain data -oruns/a"),
        ("pretrain --data missing --bias", "data", "pretrain data --bias"),
        ("evaluate missing --canary foo bar", "run", "evaluate run --canary foo bar"),
        ("prepare a.toml b.toml --seed 1", "c", "prepare c --seed 1"),
        ("windows --data=-x", "-d", "windows ./-d"),
    ],
)
def test_another_first_argument(typed: str, value: str, expected: str) -> None:
    verb = VERB[typed.split()[0]]
    assert console.with_positional(typed.split(), verb, value) == expected.split()


def test_a_list_is_typed_as_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        console, "typed", ["instruct", "run", "--lora-targets", "up", "--mix-frac", "0.5"]
    )
    mistake = UserError("No target.", settings={"lora_targets": ("query", "value")})
    assert console.command_that_helps(mistake) == (
        "groundup instruct run --mix-frac 0.5 --lora-targets query value"
    )


def test_a_path_that_begins_with_a_hyphen() -> None:
    assert quoted(Path("-my data")) == "'./-my data'"
    assert [quoted(word) for word in (Path("-"), "--out", Path("a-b"))] == ["-", "--out", "a-b"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("runs\\story", "runs\\story"),
        ("C:\\data\\a.txt", "C:\\data\\a.txt"),
        ("my data", '"my data"'),
        ("it's", '"it\'s"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("a&b", '"a&b"'),
        ("", '""'),
    ],
)
def test_windows_has_double_quotes_only(
    word: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_IS_WINDOWS", True)
    assert joined(["groundup", word]) == f"groundup {expected}"


def test_the_recipe_stays_beside_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, text = tmp_path / "r.toml", tmp_path / "text.txt"
    recipe.write_text("data = 'other/corpus'\n")
    text.write_text("A window slides over the words of a text. " * 200, encoding="utf-8")
    assert main(["prepare", "--out", "other", "--no-audit", str(text)]) == 0
    assert main(["train-tokenizer", "other", "--kind", "characters"]) == 0
    for line, option in (("{}", "--config"), ("other/corpus --recipe {}", "--recipe")):
        capsys.readouterr()
        assert main(["pretrain", *line.format(recipe).split()]) == 1
        command = capsys.readouterr().err.strip().rpartition("Try: ")[2]
        assert command == f"groundup pretrain other {option} {recipe}"
