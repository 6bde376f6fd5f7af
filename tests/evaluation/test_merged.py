"""Merged models: what is saved, and the measured difference to the adapters."""

import json
from pathlib import Path

import pytest
import torch
from decoder_models import CONFIGS, lively, text

from groundup.base.errors import UserError
from groundup.evaluation.merged import MergeReport, merge_and_save
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, lora_parameters
from groundup.model.lora_config import LoRAConfig
from groundup.weights.adapter import load_adapter
from groundup.weights.checkpoint_format import load_model

ROWS = [text(40, seed) for seed in range(4)]
IDS = torch.tensor([ROWS[0]])


def trained(dtype: torch.dtype = torch.float32) -> GPT:
    model = lively(CONFIGS["llama"])
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    add_lora(model, LoRAConfig(rank=3, alpha=3.0), seed=1)
    generator = torch.Generator().manual_seed(5)
    for parameter in lora_parameters(model).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def save(model: GPT, folder: Path, **more: torch.dtype) -> MergeReport:
    folder.mkdir()
    return merge_and_save(
        model, folder, base_name="runs/a", base_sha256="f00", check_ids=ROWS, **more
    )


@torch.no_grad()
def test_model_and_adapter_are_saved_and_compute_the_same(tmp_path: Path) -> None:
    model = trained()
    report = save(model, tmp_path / "merged")
    assert report.max_logit_difference < 1e-5
    assert abs(report.loss_difference_nats) < 1e-5
    assert report.n_tokens == 4 * 39
    torch.testing.assert_close(load_model(tmp_path / "merged").eval()(IDS), model(IDS))
    base = lively(CONFIGS["llama"])
    load_adapter(base, tmp_path / "merged" / "adapter")
    torch.testing.assert_close(base(IDS), model(IDS))
    written = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert written["loss_difference_nats"] == report.loss_difference_nats
    assert written["base_sha256"] == "f00"
    assert model.training is False


def test_a_base_in_bfloat16_is_merged_exactly_and_stays_as_it_was(tmp_path: Path) -> None:
    model = trained(torch.bfloat16)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    report = save(model.train(), tmp_path / "merged")
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter.dtype == before[name].dtype
        assert torch.equal(parameter, before[name])
    assert report.max_logit_difference < 1e-5
    assert report.dtype == "float32"


def test_rounding_to_bfloat16_is_measured(tmp_path: Path) -> None:
    report = save(trained(), tmp_path / "merged", dtype=torch.bfloat16)
    assert 1e-4 < report.max_logit_difference < 0.5
    assert "rounded to bfloat16" in report.sentence
    for parameter in load_model(tmp_path / "merged").parameters():
        assert torch.equal(parameter, parameter.bfloat16().float())


def test_without_a_text_nothing_is_compared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to compare"):
        merge_and_save(trained(), tmp_path, base_name="", base_sha256="", check_ids=[[1]])
