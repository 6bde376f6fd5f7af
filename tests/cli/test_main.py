"""The commands, their help, and what a mistake looks like."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundup.base.fields import replace_settings
from groundup.cli import main as cli
from groundup.cli.main import main
from groundup.cli.options import help_texts, options_of
from groundup.cli.verbs import VERBS, Verb
from groundup.planning.config import PlanConfig
from groundup.train.config import PretrainConfig


def parse(*words: str) -> tuple[Any, frozenset[str]]:
    parsed = cli._parse(cli._find(words[0]), list(words))
    assert parsed is not None
    return parsed


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_of_every_command_has_every_option(
    verb: Verb, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([verb.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: groundup {verb.name} [OPTIONS] [")
    for leaf in options_of(verb.config_class()).values():
        assert help_texts(leaf.owner)[leaf.path[-1]], f"{leaf.name} has no docstring"
        assert "--" + leaf.name.replace("_", "-") in text


def test_help_has_groups_with_the_common_options_first(capsys: pytest.CaptureFixture) -> None:
    assert main(["help", "pretrain"]) == 0
    text = capsys.readouterr().out
    titles = [line.split()[1] for line in text.splitlines() if line.startswith("╭")]
    assert titles == [
        *["Common", "Model", "Optimizer", "Schedule", "Validation", "Checkpoints", "Samples"],
        *["Hardware", "Experimental"],
    ]
    assert text.index("--data") < text.index("--out") < text.index("--budget")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_needs_no_torch(verb: Verb) -> None:
    code = (
        "import sys, groundup; from groundup.cli.main import main; main([])\n"
        f"assert main(['{verb.name}', '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'transformers'}\n"
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_overview_is_one_screen(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= len(VERBS) + 11
    assert max(map(len, lines)) <= 80
    for verb in VERBS:
        assert any(line.startswith(f"  {verb.name} ") for line in lines)


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["-V"]) == 0
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("groundup ")


def test_command_line_over_recipe_over_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        "steps = 7\nlearning_rate = 0.5\nn_micro_batches = 2\n[model]\nd_model = 96\n"
    )
    words = ["--learning-rate", "1e-3", "--max-grad-norm", "none", "--sample-every", "off"]
    expected = replace_settings(
        PretrainConfig(),
        steps=7,
        learning_rate=1e-3,
        grad_accumulation_steps=2,
        d_model=96,
        sample_every=None,
    )
    given = {"steps", "learning_rate", "grad_accumulation_steps", "d_model"}
    given |= {"max_grad_norm", "sample_every"}
    for first in ([str(recipe)], ["--config", str(recipe)], ["--recipe", str(recipe)]):
        assert parse("pretrain", *first, *words) == (expected, given)


@pytest.mark.parametrize("word", ["none", "Off"])
def test_a_free_text_may_be_any_word(word: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    for command, name in (("predict", "text"), ("chat", "ask"), ("chat", "system")):
        recipe.write_text(f'{name} = "{word}"\n')
        for words in ([f"--{name}", word], ["--config", str(recipe)]):
            config, _ = parse(command, *words)
            assert getattr(config, name) == word
    config, _ = parse("evaluate", "--task", "a.jsonl", "--examples", word)
    assert config.tasks.examples is None


def test_what_was_typed_is_known_though_it_is_the_default() -> None:
    config, given = parse("pretrain", "data", "--batch-size", "8", "--no-bias")
    assert config == PretrainConfig()
    assert given == {"data", "batch_size", "bias"}


def test_a_choice_of_on_and_off_may_be_typed_and_written_as_true_and_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    spellings = {
        "on": ("--compile data", "data --compile", "data --compile --steps 3", "--compile=true"),
        "off": ("--no-compile data", "data --compile off", "--compile=false data"),
        "auto": ("data", "--compile auto data"),
    }
    for value, lines in spellings.items():
        for line in lines:
            config, _ = parse("pretrain", *line.split())
            assert (config.hardware.compile, config.data) == (value, Path("data")), line
    for value, written in (("on", "true"), ("off", "false")):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f"[hardware]\ncompile = {written}\n")
        assert parse("pretrain", str(recipe))[0].hardware.compile == value
        config = replace_settings(PretrainConfig(), compile=written == "true")
        assert config.hardware.compile == value


def test_a_recipe_is_typed_first_beside_the_option_of_the_first_argument(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("steps = 7\ndata = 'a'\n")
    for line in ("pretrain {} --data b", "pretrain {} --data=b", "pretrain --config {} --data b"):
        config, _ = parse(*line.format(recipe).split())
        assert (config.steps, config.data) == (7, Path("b"))


def test_the_options_of_version_0_1_are_understood() -> None:
    old = "--n-micro-batches 2 --no-recompute --table-learning-rate=0.02 --vector-learning-rate 1"
    config, _ = parse(
        "plan", *old.split(), "--muon-iterations", "4", "--no-tied-head", "--minutes=5"
    )
    assert config == replace_settings(
        PlanConfig(),
        grad_accumulation_steps=2,
        embedding_learning_rate=0.02,
        norm_learning_rate=1.0,
        newton_schulz_steps=4,
        tie_embeddings=False,
        train_time="5m",
    )


def test_several_words_go_into_one_list() -> None:
    config, _ = parse("compare", "a", "b", "-o", "c.svg")
    assert (config.runs, config.out) == (("a", "b"), Path("c.svg"))
    config, _ = parse("compare", "--out", "c.svg", "--runs", "a", "b")
    assert config.runs == ("a", "b")


def test_a_hyphen_is_standard_input() -> None:
    config, _ = parse("story", "a.txt", "-", "--prompt", "-")
    assert (config.sources, config.prompt) == (("a.txt", "-"), "-")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "learning-rate" in script
    assert "train-tokenizer" in script
    assert main(["completion", "--help"]) == 0
    assert f"groundup completion {shell} >" in capsys.readouterr().out


@pytest.fixture
def _default_sigint() -> Iterator[None]:
    """Let Ctrl-C interrupt: a suite that runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_default_sigint")
def test_ctrl_c_at_the_very_start_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(name: str) -> Verb:
        signal.raise_signal(signal.SIGINT)
        return find(name)

    find = cli._find
    monkeypatch.setattr("groundup.cli.main._find", interrupted)
    monkeypatch.setattr("groundup.cli.main._parse", lambda verb, words: (PlanConfig(), frozenset()))
    assert main(["plan"]) == 130
    assert capsys.readouterr().err.startswith("\nStopped. ")


@pytest.mark.usefixtures("_default_sigint")
def test_ctrl_c_waits_until_all_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    before, imported = signal.getsignal(signal.SIGINT), []

    def interrupted(verb, words) -> tuple[PlanConfig, frozenset[str]]:
        signal.raise_signal(signal.SIGINT)
        imported.append(verb.name)
        return PlanConfig(), frozenset()

    monkeypatch.setattr("groundup.cli.main._parse", interrupted)
    assert main(["plan"]) == 130
    assert imported == ["plan"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("_default_sigint")
def test_ctrl_c_in_a_finalizer_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def call(*arguments: object) -> None:
        Finalized()
        for _ in range(600):
            time.sleep(0.01)

    monkeypatch.setattr("groundup.cli.main._parse", lambda verb, words: (PlanConfig(), frozenset()))
    monkeypatch.setattr("groundup.cli.main.call", call)
    assert main(["plan"]) == 130
    error = capsys.readouterr().err
    assert error.startswith("\nStopped. ")
    assert "Traceback" not in error


def test_only_what_is_resumed_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stopped(*ignored: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("groundup.cli.main._parse", stopped)
    for name, resumed in (
        ("pretrain", True),
        ("story", True),
        ("classify", True),
        ("export", False),
    ):
        assert main([name]) == 130
        assert ("resumes it" in capsys.readouterr().err) is resumed


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert main(["pretrian"]) == 2
    assert "Did you mean pretrain?" in capsys.readouterr().err


def test_a_wrong_value_is_one_line_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["prepare", str(tmp_path / "no.txt"), "--validation-frac", "many"]) == 2
    captured = capsys.readouterr().err
    assert "--validation-frac is 'many'. A number is expected." in captured
    assert "Traceback" not in captured


def test_a_recipe_is_no_standard_input(capsys: pytest.CaptureFixture) -> None:
    assert main(["pretrain", "--config", "-"]) == 2
    expected = "error: -: There is no such file. A TOML file with settings is expected.\n"
    assert capsys.readouterr().err == expected


def test_every_public_name_is_there() -> None:
    import groundup

    for name in groundup.__all__:  # type: ignore[attr-defined]
        assert callable(getattr(groundup, name)), name
