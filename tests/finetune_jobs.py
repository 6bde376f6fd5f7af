"""Tiny fine-tuning jobs of every kind, for tests of the trainer."""

import random
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from groundup.base.device import choose_device
from groundup.base.files import atomic_path
from groundup.base.run import RunFolder
from groundup.finetune.batches import RowBatches
from groundup.finetune.config import FineTuneConfig
from groundup.finetune.job import FineTuning
from groundup.finetune.training import Trained, fine_tune, open_fine_tuning
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora
from groundup.model.lora_config import LoRAConfig
from groundup.train import curves as _curves  # noqa: F401  (slow to import, once for all forks)
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.weights.checkpoint_format import save_tensors

MODEL = GPTConfig(vocab_size=40, context_length=16, d_model=16, n_layers=3, n_heads=2, dropout=0.1)
KINDS = ("full", "partial", "lora", "accumulated", "bf16", "muon", "unvalidated")
N_STEPS = 12


def random_rows(n: int, seed: int) -> list[tuple[list[int], list[int]]]:
    generator = random.Random(seed)
    rows = []
    for _ in range(n):
        ids = [generator.randrange(40) for _ in range(generator.randint(3, 15))]
        rows.append((ids, [-100, *[(7 * token + 1) % 40 for token in ids[1:]]]))
    return rows


def config_of(kind: str, **changes: object) -> FineTuneConfig:
    settings: dict[str, object] = {
        "batch_size": 4,
        "steps": N_STEPS,
        "learning_rate": 0.01,
        "validate_every": 3,
        "checkpoint_every": 2,
        "dtype": "bf16" if kind == "bf16" else "fp32",
        "grad_accumulation_steps": 3 if kind == "accumulated" else 1,
        "activation_checkpointing": kind == "accumulated",
        "threads": 1,
        "device": "cpu",
    }
    return FineTuneConfig(**{**settings, **changes})  # type: ignore[arg-type]


def make_job(kind: str, config: FineTuneConfig | None = None) -> FineTuning:
    config = config or config_of(kind)
    model = GPT(MODEL, seed=3).to(choose_device(config.device))
    if kind == "partial":
        model.requires_grad_(False)
        for part in (model.blocks[-1], model.final_norm):
            part.requires_grad_(True)
    if kind == "lora":
        add_lora(model, LoRAConfig(rank=2, dropout=0.2), seed=5)
    validation = [part.to(model.device) for part in RowBatches(random_rows(6, 2), 6).batch(0)]

    def validate() -> float:
        with torch.no_grad():
            return float(model.loss(*validation))

    name: Literal["muon", "adamw"] = "muon" if kind == "muon" else "adamw"
    return FineTuning(
        model=model,
        loss=model.loss,
        batches=RowBatches(random_rows(20, 1), config.batch_size, seed=4),
        optimizer=Optimizer(model, OptimizerConfig(name=name, learning_rate=config.learning_rate)),
        n_steps=config.n_steps(20),
        config=config,
        validate=None if kind == "unvalidated" else validate,
        identity=f"test {kind}",
    )


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters()}


def train(wanted: Path, job: FineTuning) -> tuple[RunFolder, Trained]:
    """What a command does: train, write the model, and then the manifest."""
    torch.set_num_threads(1)
    run, _ = open_fine_tuning(wanted, job.config)
    trained = fine_tune(job, run)
    with atomic_path(run.path / "final.safetensors") as temporary:
        save_tensors(weights_of(job.model), temporary)
    run.write_manifest({**run.read_manifest(), "finished_at": "now"})
    return run, trained


def train_kind(wanted: Path, kind: str) -> None:
    train(wanted, make_job(kind))
