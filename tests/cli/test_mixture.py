"""Commands after a training on a mixture know all of its texts."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from groundup.base.run import RunFolder
from groundup.cli.main import main
from groundup.evaluation import generate
from groundup.evaluation.config import GenerateConfig
from groundup.evaluation.recitation import Recitation
from groundup.evaluation.run_data import texts_of
from groundup.finetune.instruct.identity import identity_of

SHAPE = "--context-length 64 --d-model 16 --n-layers 1 --n-heads 1"
SEAS, HILLS = "the cold sea and the old ship. " * 60, "high hills, and a road up the hill. " * 60


def test_samples_are_compared_with_every_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", SEAS), ("b", HILLS)):
        Path(f"{name}.txt").write_text(text)
    for command in (
        "prepare a.txt --out a",
        "train-tokenizer a --vocab-size 300",
        "prepare b.txt --out b",
        "encode b --tokenizer a/tokenizer",
        f"pretrain --mix a=3,b=1 --steps 1 --batch-size 2 --sample-every 0 --no-curves {SHAPE}",
    ):
        assert main(command.split()) == 0, command
    [run] = Path("runs").iterdir()
    seen = []

    def read_all(sample: str, training_text: Callable[[], Iterable[str]], **_: int) -> Recitation:
        seen.append("".join(training_text()))
        return Recitation(longest="", copied_frac=0.0, n_characters=32)

    monkeypatch.setattr(generate, "recitation", read_all)
    generate.generate_samples(GenerateConfig(run=run, max_new_tokens=2, temperature=0.0))
    assert "the old ship. the cold sea" in seen[0]
    assert "up the hill. high hills" in seen[0]
    assert identity_of(run, None, 1).trained_on == "2 texts"
    inside = RunFolder(run / "assistant")
    inside.path.mkdir()
    inside.write_manifest({"foundation": str(run)})
    assert [folder.name for folder, _ in texts_of(inside)] == ["a", "b"]
