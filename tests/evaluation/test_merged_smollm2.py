"""Merging adapters into a real model: what float32 and bfloat16 change, on a real text."""

from pathlib import Path

import pytest
import torch
from peers import smollm2

from groundup.evaluation.load import load
from groundup.evaluation.merged import merge_and_save
from groundup.evaluation.pretrained import import_pretrained
from groundup.model.lora import add_lora, lora_parameters
from groundup.model.lora_config import LoRAConfig
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.weights.config import ImportConfig

TRAIN = "Sing, O goddess, the anger of Achilles son of Peleus, that brought countless ills. " * 4
TEST = (
    "Call me Ishmael. Some years ago - never mind how long precisely - having little or no money "
    "in my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world. It is a way I have of driving off the spleen."
)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_merged_smollm2_is_the_unmerged_one(tmp_path: Path, variant: str) -> None:
    run = import_pretrained(ImportConfig(source=smollm2(), out=tmp_path / "run")).run
    language_model = load(run)
    model, tokenizer = language_model.model, language_model.tokenizer
    add_lora(model, LoRAConfig(variant=variant), seed=1)  # type: ignore[arg-type]
    optimizer = Optimizer(
        model, OptimizerConfig(name="adamw", learning_rate=2e-3, weight_decay=0.0)
    )
    ids = torch.tensor([tokenizer.encode(TRAIN)])
    losses = []
    for _ in range(4):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1.0)
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    assert all(parameter.any() for parameter in lora_parameters(model).values())
    rows = [tokenizer.encode(TEST)]
    for dtype in (torch.float32, torch.bfloat16):
        folder = tmp_path / str(dtype)
        folder.mkdir()
        report = merge_and_save(
            model, folder, base_name=str(run), base_sha256="", check_ids=rows, dtype=dtype
        )
        print(variant, report)
        if dtype == torch.float32:
            # Seven digits: the same products, summed in another order.
            assert report.max_logit_difference < 1e-5 * report.largest_logit
            assert abs(report.loss_difference_nats) < 1e-5
        else:
            assert report.max_logit_difference > 1e-3
            assert abs(report.loss_difference_nats) < 1e-3
