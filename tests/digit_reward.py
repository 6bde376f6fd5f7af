"""A small run and a reward that its untrained model sometimes gets, for reinforcement learning."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.reinforce import reinforce
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora_config import LoRAConfig
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.train import curves as _curves  # noqa: F401  (slow to import: once for all forks)
from groundup.weights.checkpoint_format import save_model


def starts_with_digit(prompt: str, reply: str, answer: str) -> float:
    """1 for a reply whose first character is a digit."""
    return float(reply[:1].isdecimal())


def write_base(folder: Path) -> Path:
    """Write a run whose model knows the characters of additions."""
    tokenizer = CharacterTokenizer.from_text("0123456789 +=\n")
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size, context_length=64, d_model=32, n_layers=1, n_heads=2
    )
    model = GPT(config, seed=1)
    model.token_embedding.weight.data *= 2  # frozen, and it limits the range of the logits
    save_model(model, folder / "checkpoints" / "step-000001")
    tokenizer.save(folder / "tokenizer")
    return folder


def small_config(run: Path) -> ReinforceConfig:
    return ReinforceConfig(
        run=run,
        shots=1,
        test_items=60,
        test_samples=2,
        steps=12,
        batch_size=8,
        learning_rate=0.03,
        lora=LoRAConfig(rank=4),
        dtype="fp32",
        threads=1,
    )


def train_in(folder: Path, base: str) -> None:
    """Train in a folder, or continue there."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    torch.set_num_threads(1)
    config = replace(small_config(Path(base)), out=Path("tuned"), checkpoint_every=2)
    reinforce(config, reward=starts_with_digit)
