"""The jobs: a run becomes a folder that transformers opens whole, and a folder becomes a run."""

import json
from pathlib import Path

import pytest
import torch

from groundup.base.errors import UserError
from groundup.evaluation.export import export
from groundup.evaluation.pretrained import import_pretrained
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import open_model, save_model
from groundup.weights.config import ExportConfig, ImportConfig

CONFIG = GPTConfig(vocab_size=300, context_length=16, d_model=16, n_layers=2, n_heads=2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a checkpoint, and byte-level BPE made by the tokenizers library."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "run"
    model = GPT(CONFIG, seed=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    save_model(model, folder / "checkpoints" / "step-000005")
    (folder / "checkpoints" / "latest").write_text("step-000005")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(["the cat sat on the mat and the dog sat on the cat"] * 9, trainer)
    (folder / "tokenizer").mkdir()
    bpe.save(str(folder / "tokenizer" / "tokenizer.json"))
    return folder


def test_export_says_what_it_wrote_and_reads_it_back(run: Path, tmp_path: Path) -> None:
    report = export(ExportConfig(run=run, out=tmp_path / "out"))
    assert report.folder == tmp_path / "out"
    assert report.model_class == "Qwen3ForCausalLM"
    assert report.has_tokenizer
    assert report.max_logit_difference < 1e-5
    assert report.n_bytes == sum(f.stat().st_size for f in report.folder.iterdir())
    assert export(ExportConfig(run=run, out=tmp_path / "out")).n_bytes == report.n_bytes  # again
    assert export(ExportConfig(run=run)).folder == run / "huggingface"


@pytest.mark.parity
def test_transformers_opens_the_folder_offline(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = export(ExportConfig(run=run, out=tmp_path / "out")).folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    there = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    text = "the dog sat on the mat"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.eos_token_id == there.config.eos_token_id
    ours = open_model(run)[1].eval()
    with torch.no_grad():
        torch.testing.assert_close(there(ids).logits, ours(ids), rtol=1e-4, atol=1e-4)


def test_a_tokenizer_of_another_schema_is_not_copied(run: Path, tmp_path: Path) -> None:
    (run / "tokenizer" / "tokenizer.json").write_text('{"kind": "words"}')
    report = export(ExportConfig(run=run, out=tmp_path / "out"))
    assert not report.has_tokenizer
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_without_a_model_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no model here"):
        export(ExportConfig(run=tmp_path))


def test_an_exported_folder_imports_as_a_run(run: Path, tmp_path: Path) -> None:
    folder = export(ExportConfig(run=run, out=tmp_path / "out")).folder
    config = ImportConfig(source=folder, out=tmp_path / "imported")
    report = import_pretrained(config)
    assert report.model_type == "qwen3"
    assert report.has_tokenizer
    ours, back = (open_model(p)[1].eval() for p in (run, report.run))
    ids = torch.arange(16)[None]
    torch.testing.assert_close(ours(ids), back(ids))
    manifest = json.loads((report.run / "manifest.json").read_text())
    assert manifest["n_parameters"] == report.n_parameters
    assert import_pretrained(config).run.name == "imported-2"
