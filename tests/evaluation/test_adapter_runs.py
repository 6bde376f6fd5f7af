"""Runs made of a base and an adapter: imported, exported, and opened by every command."""

from pathlib import Path
from typing import Any

import pytest
import torch
from exported import bpe, write_run
from peers import peer

from groundup.base.errors import UserError
from groundup.base.files import write_json
from groundup.base.run import RunFolder
from groundup.evaluation.export import export
from groundup.evaluation.load import load
from groundup.evaluation.merged import merge_and_save
from groundup.evaluation.pretrained import import_pretrained
from groundup.finetune.instruct.chat_tokens import with_rows
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, lora_parameters
from groundup.model.lora_config import LoRAConfig
from groundup.weights.adapter import load_adapter, save_adapter

IDS = torch.arange(40)[None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tokenizer = bpe()
    config = GPTConfig.llama(
        vocab_size=tokenizer.vocab_size, context_length=64, d_model=24, n_layers=2, n_heads=2,
        n_kv_heads=1, d_ff=32,
    )  # fmt: skip
    return write_run(tmp_path / "base", GPT(config, seed=3), tokenizer)


@pytest.fixture
def tuned(base: Path) -> Path:
    """A run of LoRA, as the fine-tuning commands write it."""
    opened = load(base)
    add_lora(opened.model, LoRAConfig(rank=3), seed=1)
    generator = torch.Generator().manual_seed(5)
    for parameter in lora_parameters(opened.model).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    folder = base / "tuned"
    folder.mkdir()
    rows = [opened.tokenizer.encode("the cat sat on the mat")]
    merge_and_save(opened.model, folder, base_name=str(base), base_sha256="f00", check_ids=rows)
    opened.tokenizer.save(folder / "tokenizer")
    write_json(folder / "manifest.json", {})
    return folder


@torch.inference_mode()
def test_the_adapter_of_a_run_is_exported_for_peft(base: Path, tuned: Path) -> None:
    peft, transformers = peer("peft"), peer("transformers")
    export(run=base)
    result = export(run=tuned, to="peft")
    assert result.folder == tuned / "peft"
    assert result.max_logit_difference < 1e-5
    assert result.n_checked_tokens > 50
    assert result.notes == ()
    model = transformers.AutoModelForCausalLM.from_pretrained(base / "huggingface").eval()
    theirs = peft.PeftModel.from_pretrained(model, result.folder)
    assert theirs.peft_config["default"].base_model_name_or_path == str(base / "huggingface")
    difference = (load(tuned).model(IDS) - theirs(IDS).logits).abs().max()
    assert difference < 1e-5
    assert export(run=tuned, to="peft").folder == result.folder  # replaced


def test_an_export_says_that_the_base_is_needed_or_absent(base: Path, tuned: Path) -> None:
    assert f"groundup export {base}" in export(run=tuned, to="peft").notes[0]
    moved = base.rename(base.with_name("other"))
    alone = (moved / "tuned").rename(moved.with_name("alone"))
    result = export(run=alone, to="peft")
    assert result.n_checked_tokens == 0
    assert "was not found" in result.notes[0]


def test_exports_that_are_refused(base: Path, tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="This run has no adapter"):
        export(run=base, to="peft")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="Expected a new or empty folder"):
        export(run=tuned, to="peft", out=tmp_path / "full")
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"
    write_json(tuned / "manifest.json", {"added_tokens": ["<|user|>", "<|end|>"]})
    with pytest.raises(UserError, match=r"^.*<\|user\|>, <\|end\|> were added") as caught:
        export(run=tuned, to="peft")
    assert caught.value.settings == {"to": "hf"}
    assert not (tuned / "peft").exists()


@torch.inference_mode()
def test_an_adapter_of_peft_becomes_a_run(base: Path, tmp_path: Path) -> None:
    peft, transformers = peer("peft"), peer("transformers")
    folder = export(run=base).folder
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    theirs = peft.get_peft_model(model, settings).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    result = import_pretrained(tmp_path / "adapter", base=base, out=tmp_path / "merged")
    assert result.merge is not None
    assert result.merge.max_logit_difference < 1e-5
    assert result.n_parameters == sum(p.numel() for p in load(base).model.parameters())
    assert RunFolder(result.run).is_run
    opened = load(result.run)
    assert (opened.model(IDS) - theirs(IDS).logits).abs().max() < 1e-5
    assert opened.tokenizer.fingerprint == load(base).tokenizer.fingerprint
    again = load(base).model
    load_adapter(again, result.run / "adapter")
    assert (again(IDS) - theirs(IDS).logits).abs().max() < 1e-5


def test_imports_that_are_refused(base: Path, tuned: Path, tmp_path: Path) -> None:
    def refused(source: Path, **more: Any) -> UserError:
        with pytest.raises(UserError) as error:
            import_pretrained(source, out=tmp_path / "new", **more)
        assert not (tmp_path / "new").exists()
        return error.value

    error = refused(tuned / "adapter")
    assert f"This is a LoRA adapter of {base}" in error.message
    assert error.settings == {"base": str(base)}
    folder = export(run=base).folder
    assert "not a LoRA adapter" in refused(folder, base=base).message
    assert "another base" in refused(tuned / "adapter", base=tuned).message
    larger = with_rows(load(base).model, N := load(base).tokenizer.vocab_size, N + 3, seed=0)
    add_lora(larger, LoRAConfig(rank=3), seed=1)
    save_adapter(larger, tmp_path / "chat")
    error = refused(tmp_path / "chat", base=base)
    assert f"a model of {N + 3} tokens, and this one has {N}: chat tokens were" in error.message
