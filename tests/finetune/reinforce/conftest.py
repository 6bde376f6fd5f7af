"""A run whose small model knows the characters of additions."""

from pathlib import Path

import pytest

from groundup.finetune.reinforce.config import ReinforceConfig
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora_config import LoRAConfig
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.weights.checkpoint_format import save_model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my run"
    tokenizer = CharacterTokenizer.from_text("0123456789 +=\n")
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size, context_length=64, d_model=32, n_layers=1, n_heads=2
    )
    model = GPT(config, seed=1)
    model.token_embedding.weight.data *= 2  # frozen, and it limits the range of the logits
    save_model(model, folder / "checkpoints" / "step-000001")
    tokenizer.save(folder / "tokenizer")
    return folder


@pytest.fixture
def config(run: Path) -> ReinforceConfig:
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
