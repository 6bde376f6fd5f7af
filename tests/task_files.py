"""Tasks for tests, and a small run that answers them."""

import json
import random
from pathlib import Path

from exported import bpe, random_model, write_run

WORDS = "the cat sat on mat and dog log was long It hi hit".split()  # noqa: SIM905


def rows(n: int = 40, seed: int = 3, n_choices: int = 4) -> list[dict]:
    draw = random.Random(seed)

    def words(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    found = []
    for number in range(n):
        choices: list[str] = []
        while len(choices) < n_choices:
            choices += [c for c in [words(1, 3)] if c not in choices]
        question = f"{words(2, 6)} {number}"
        found.append({"question": question, "choices": choices, "answer": number % n_choices})
    return found


def write_task(path: Path, items: list[dict]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def write_model(folder: Path, **changes) -> Path:
    """A run with a random model, which has its opinions on every choice."""
    tokenizer = bpe()
    sizes = {"context_length": 256, **changes}
    return write_run(folder, random_model(tokenizer.vocab_size, **sizes), tokenizer)
