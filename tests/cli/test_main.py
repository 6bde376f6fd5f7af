"""The verb table, its help, and what a mistake looks like."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.base import config as configs
from groundup.cli.main import main
from groundup.cli.verbs import VERBS


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_of_every_verb_tells_every_option(verb, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb.name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    fields = configs.describe(verb.config)
    leaves = [field.leaf for field in fields]
    assert len(leaves) == len(set(leaves)), "an option name stands twice"
    for field in fields:
        assert field.help, f"{field.leaf} has no docstring"
        if field.leaf != verb.positional:
            assert "--" + field.leaf.replace("_", "-") in text


def test_help_and_import_need_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, groundup; from groundup.cli.main import main; main([])\n"
        "try: main(['pretrain', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt: a suite that runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_waits_until_all_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    before, imported = signal.getsignal(signal.SIGINT), []

    def interrupted(verb, options) -> None:
        signal.raise_signal(signal.SIGINT)
        imported.append(verb.name)

    monkeypatch.setattr("groundup.cli.main._build_config", interrupted)
    assert main(["plan"]) == 130
    assert imported == ["plan"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert main(["pretrian"]) == 1
    assert "pretrain" in capsys.readouterr().err


def test_a_wrong_value_is_one_line_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["prepare", str(tmp_path / "no.txt"), "--validation-frac", "many"]) == 1
    captured = capsys.readouterr().err
    assert "validation_frac" in captured
    assert "Traceback" not in captured


def test_every_public_name_is_there() -> None:
    import groundup

    for name in groundup.__all__:  # type: ignore[attr-defined]
        assert callable(getattr(groundup, name)), name
