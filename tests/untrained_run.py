"""A run with a small untrained model, for the tests of complete fine-tuning jobs."""

from pathlib import Path
from typing import Any

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.train_bpe import train_bpe
from groundup.weights.checkpoint_format import save_model


def untrained_run(folder: Path, **changes: Any) -> Path:
    tokenizer = train_bpe(["the cat sat on the mat and the dog sat on the log " * 9], 300)
    shape = {"context_length": 24, "d_model": 16, "n_layers": 2, "n_heads": 2, **changes}
    config = GPTConfig(vocab_size=tokenizer.vocab_size, **shape)
    save_model(GPT(config, seed=1), folder / "checkpoints" / "step-000001")
    tokenizer.save(folder / "tokenizer")
    return folder
