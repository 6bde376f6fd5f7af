"""What `plan` says to type next is the run it has judged."""

from pathlib import Path

import pytest

from groundup.cli.main import main
from groundup.cli.plan import _for_pretrain


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("data/x --budget 20m", "data/x --budget 20m"),
        ("recipe.toml --train-time 3m --batch-size=4", "recipe.toml --batch-size=4"),
        ("--probe-s=1 --max-passes 9 data/x --no-tie-embeddings", "data/x --no-tie-embeddings"),
    ],
)
def test_only_the_words_that_plan_alone_knows_are_left_out(typed: str, kept: str) -> None:
    assert _for_pretrain(typed.split()) == kept.split()


def test_the_next_command_keeps_what_was_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    text, data = tmp_path / "text.txt", str(tmp_path / "my data")
    text.write_text("A window slides over the words of a text. " * 200, encoding="utf-8")
    assert main(["prepare", str(text), "--out", data]) == 0
    assert main(["train-tokenizer", data, "--kind", "characters"]) == 0
    small = ["--context-length", "16", "--d-model", "16", "--n-heads", "2"]
    assert main(["plan", data, *small, "--minutes=0.001", "--probe-s", "0.1"]) == 0
    next_line = capsys.readouterr().out.splitlines()[-1]
    assert next_line.startswith(f"next: groundup pretrain '{data}' {' '.join(small)} --steps ")
