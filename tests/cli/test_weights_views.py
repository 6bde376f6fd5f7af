"""generate, export and import as a user sees them, on a small run made here."""

import json
from pathlib import Path

import pytest
from small_corpus import write_corpus

from groundup.base.errors import UserError
from groundup.cli import export, generate, import_
from groundup.evaluation.config import GenerateConfig
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.documents import Document
from groundup.tokenizer.train_bpe import train_bpe
from groundup.weights.checkpoint_format import save_model
from groundup.weights.config import ExportConfig, ImportConfig

TEXT = "the cat sat on the mat and the dog sat on the cat. " * 20


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    tokenizer = train_bpe([TEXT], 290)
    model = GPT(
        GPTConfig(
            vocab_size=tokenizer.vocab_size, context_length=32, d_model=16, n_layers=1, n_heads=2
        )
    )
    save_model(model, folder / "checkpoints" / "step-000001")
    (folder / "checkpoints" / "latest").write_text("step-000001\n")
    tokenizer.save(folder / "tokenizer")
    write_corpus(folder / "data", [Document("a", TEXT)], [Document("b", "one two three " * 9)])
    return folder


def test_generate_shows_samples_and_what_is_recited(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = generate.run(GenerateConfig(run=run, samples=2, max_new_tokens=12))
    assert made.prompt == "one two three one two three"
    assert [s.setting.split(",")[0] for s in made.samples] == [
        "temperature 0 (greedy)", "temperature 0.8", "temperature 0.8",
    ]  # fmt: skip
    assert all(s.longest_recited is not None for s in made.samples)
    printed = capsys.readouterr().out
    assert "top-p 0.95, seed 1" in printed
    assert f"groundup export {run}" in printed.replace("\n", "")
    kept = json.loads((run / "samples" / "generated.json").read_text())
    assert [s["text"] for s in kept["samples"]] == [s.text for s in made.samples]
    again = generate.run(GenerateConfig(run=run, samples=2, max_new_tokens=12))
    assert again == made


def test_generate_without_the_training_text_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "data" / "corpus" / "train.jsonl").unlink()
    made = generate.run(
        GenerateConfig(run=run, prompt="the cat", temperature=0.0, max_new_tokens=5)
    )
    assert [s.longest_recited for s in made.samples] == [None]
    assert "not compared with the training text" in capsys.readouterr().out


def test_generate_refuses_no_samples(run: Path) -> None:
    with pytest.raises(UserError, match=r"samples is 0\. A whole number of at least 1"):
        generate.run(GenerateConfig(run=run, samples=0))


def test_export_then_import_writes_the_same_text(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = export.run(ExportConfig(run=run))
    assert report.has_tokenizer
    assert "AutoTokenizer" in capsys.readouterr().out
    imported = import_.run(ImportConfig(source=report.folder, out=tmp_path / "imported"))
    texts = [
        generate.run(GenerateConfig(run=path, prompt="the dog", max_new_tokens=8))
        for path in (run, imported.run)
    ]
    assert [s.text for s in texts[0].samples] == [s.text for s in texts[1].samples]


@pytest.mark.parity
def test_transformers_reads_our_tokenizer(run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from groundup.evaluation.load import load

    folder = export.run(ExportConfig(run=run)).folder
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load(run).tokenizer
    for text in (TEXT, "naïve café, 东京!\n\n  two  spaces", "<|endoftext|>"):
        assert theirs.encode(text) == ours.encode(text, allowed_special="all")
