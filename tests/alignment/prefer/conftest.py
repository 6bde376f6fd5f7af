"""A small assistant that answers anything, and pairs that it can learn from."""

import json
from pathlib import Path

import pytest

from groundup.alignment.prefer.config import PreferConfig
from groundup.finetune.instruct.chat_tokens import CHAT_TOKENS
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora_config import LoRAConfig
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.train_bpe import train_bpe
from groundup.weights.checkpoint_format import save_model

WORDS = "cat dog log mat fox owl".split()  # noqa: SIM905


@pytest.fixture
def assistant(tmp_path: Path) -> Path:
    folder = tmp_path / "my run" / "assistant"
    text = "say the cat sat on the mat please and the dog sat on the log no fox owl " * 9
    tokenizer = with_special_tokens(train_bpe([text], 300), CHAT_TOKENS)
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size, context_length=32, d_model=16, n_layers=1, n_heads=2
    )
    for place in (folder.parent / "checkpoints" / "step-000001", folder):
        save_model(GPT(config, seed=1), place)
        tokenizer.save(place / "tokenizer")
    tokenizer.save(folder.parent / "tokenizer")
    (folder / "assistant.json").write_text("{}")
    return folder


def records(n: int = 60) -> list[dict[str, str]]:
    """Polite answers are chosen; which word is asked for does not matter."""
    return [
        {
            "instruction": f"say {i} {WORDS[i % 6]}",
            "chosen": f"the {WORDS[i % 6]} please",
            "rejected": f"no {WORDS[i % 6]}",
        }
        for i in range(n)
    ]


def written(folder: Path, pairs: list[dict[str, str]], name: str = "pairs.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(pairs))
    return file


@pytest.fixture
def config(assistant: Path, tmp_path: Path) -> PreferConfig:
    return PreferConfig(
        run=assistant,
        records=written(tmp_path, records()),
        split="random",
        test_frac=0.5,
        validation_frac=0.1,
        steps=20,
        batch_size=4,
        learning_rate=0.01,
        lora=LoRAConfig(rank=4),
        max_new_tokens=6,
        n_samples=2,
        dtype="fp32",
        threads=1,
    )
