"""Match finds equal what is equal, and names what differs."""

import json
from pathlib import Path

import pytest
import torch
from exported import bpe, random_model, write_assistant, write_run
from safetensors.torch import load_file, save_file

from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.evaluation.export import export
from groundup.evaluation.match import MatchResult, match
from groundup.evaluation.match_generation import compare_generation
from groundup.evaluation.pretrained import import_pretrained
from groundup.generation.decoder import Decoder
from groundup.weights.config import ExportConfig, ImportConfig, MatchConfig


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A base model with random weights and a tokenizer of ours."""
    tokenizer = bpe()
    return write_run(tmp_path / "run", random_model(tokenizer.vocab_size), tokenizer)


def results(result: MatchResult) -> dict[str, bool | None]:
    return {check.name: check.is_equal for check in result.checks}


EQUAL = {
    "settings": True, "weights": True, "logits": True, "ids": True, "chat template": True,
    "ends": True, "cached = uncached": True, "batched = single": True,
}  # fmt: skip


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_an_export_matches_its_run(tmp_path: Path, to: str) -> None:
    run, _ = write_assistant(tmp_path / "run")
    result = export(ExportConfig(run=run, to=to))  # type: ignore[arg-type]
    against = result.folder if to == "hf" else result.files[0]
    found = match(MatchConfig(run=run, against=against))
    assert results(found) == EQUAL
    assert not found.findings
    weights = next(check for check in found.checks if check.name == "weights")
    assert weights.found == "9 of 9 tensors are equal bit by bit"


def test_an_imported_run_is_compared_with_its_source(run: Path, tmp_path: Path) -> None:
    folder = export(ExportConfig(run=run)).folder
    imported = import_pretrained(ImportConfig(source=folder, out=tmp_path / "imported")).run
    found = match(MatchConfig(run=imported))
    assert found.against == folder
    assert results(found) == EQUAL | {"chat template": None}
    with pytest.raises(UserError, match="does not state a source"):
        match(MatchConfig(run=run))


def test_another_run_and_a_rounded_file_differ_with_numbers(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", random_model(288, n_layers=1), bpe("gpt2"))
    found = match(MatchConfig(run=run, against=other))
    said = {check.name: check.found for check in found.checks}
    assert {check.name for check in found.findings} == {"settings", "weights", "logits", "ids"}
    assert "n_layers: 2, 1" in said["settings"]
    assert "are on one side only" in said["weights"]
    rounded = export(ExportConfig(run=run, to="gguf", dtype="q8_0")).files[0]
    found = match(MatchConfig(run=run, against=rounded))
    assert {check.name for check in found.findings} == {"weights", "logits"}
    assert not match(MatchConfig(run=run, against=run)).findings


def test_each_difference_is_found(tmp_path: Path) -> None:
    run, _ = write_assistant(tmp_path / "run")
    folder = export(ExportConfig(run=run)).folder
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-6
    save_file(weights, folder / "model.safetensors")
    about = json.loads((folder / "tokenizer_config.json").read_text())
    changed = about | {"chat_template": about["chat_template"] + " "}
    (folder / "tokenizer_config.json").write_text(json.dumps(changed))
    generation = json.loads((folder / "generation_config.json").read_text())
    generation["eos_token_id"] = 3
    (folder / "generation_config.json").write_text(json.dumps(generation))
    found = match(MatchConfig(run=run, against=folder))
    assert {check.name for check in found.findings} == {"weights", "chat template", "ends"}
    said = {check.name: check.found for check in found.checks}
    assert "8 of 9 tensors" in said["weights"]
    assert "in final_norm.weight" in said["weights"]


def test_a_decoder_that_computes_otherwise_is_found(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(288)
    prompts = [[1, 2, 3], [7], [4, 5, 6, 7, 8]]
    assert all(is_equal for _, is_equal, _ in compare_generation(model, prompts, 1e-4))
    step = Decoder.step

    def wrong(self: Decoder, tokens: list[int], rows: list[object]) -> torch.Tensor:
        logits = step(self, tokens, rows)  # type: ignore[arg-type]
        return logits.roll(1, -1) if len(rows) > 1 else logits

    monkeypatch.setattr(Decoder, "step", wrong)
    found = {name: is_equal for name, is_equal, _ in compare_generation(model, prompts, 1e-4)}
    assert found == {"cached = uncached": True, "batched = single": False}


def test_the_command_fails_where_something_differs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(ExportConfig(run=run)).folder
    assert main(["match", str(run), "--against", str(folder)]) == 0
    assert "Everything that both sides have is equal." in capsys.readouterr().out
    other = write_run(tmp_path / "other", random_model(288, n_layers=1), bpe())
    assert main(["match", str(run), "--against", str(other)]) == 1
    assert "FAIL" in capsys.readouterr().out
