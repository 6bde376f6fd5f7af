"""A folder with a tiny run and files for every fine-tuning command, and one call of a command."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import torch
from digit_reward import starts_with_digit
from small_runs import make_data

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.reinforce import reinforce
from groundup.alignment.reinforce.result import ReinforceResult
from groundup.cli.main import main
from groundup.cli.verbs import VERBS
from groundup.finetune.instruct.chat_tokens import CHAT_TOKENS
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora_config import LoRAConfig
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train import curves as _curves  # noqa: F401  (slow to import: once for all forks)
from groundup.weights.checkpoint_format import save_model

ANIMALS, VERBS_OF_TEXT = "cat dog cow hen fox owl", "sat ran slept ate hid sang"
COMMANDS = {
    "classify": "runs/base --labels labels.csv --method lora --steps 12 --batch-size 4",
    "classify_frozen": "runs/base --labels labels.csv",
    "instruct": "runs/base --records records.json --steps 12 --batch-size 4 --no-baselines "
    "--max-new-tokens 4 --method lora",
    "pretrain": "data --steps 24 --batch-size 4 --d-model 16 --n-layers 1 --n-heads 2 "
    "--context-length 16 --dropout 0.1 --sample-every 8",
    "prefer": "runs/assistant --records pairs.json --steps 12 --batch-size 4 --max-new-tokens 4",
}
NAMES = (*COMMANDS, "reinforce")
EVERY = "--threads 1 --seed 3 --out runs/base/tuned"
STEPS = "--validate-every 4 --checkpoint-every 2"


def sentences(n: int) -> list[str]:
    """Different sentences without near duplicates."""
    generator = random.Random(5)
    animals, verbs = ANIMALS.split(), VERBS_OF_TEXT.split()
    return [
        " ".join(generator.choice(words) for _ in range(5) for words in (animals, verbs))
        for _ in range(n)
    ]


def make_start(folder: Path) -> None:
    """Write the run of a small untrained model, and the files that every command reads."""
    texts = sentences(60)
    base = train_bpe([" ".join(texts) + " say again please"], 290)
    assistant = with_special_tokens(base, CHAT_TOKENS)
    for name, tokenizer in (("base", base), ("assistant", assistant)):
        config = GPTConfig(
            vocab_size=tokenizer.vocab_size, context_length=96, d_model=16, n_layers=2, n_heads=2
        )
        run = folder / "runs" / name
        save_model(GPT(config, seed=1), run / "checkpoints" / "step-000001")
        tokenizer.save(run / "tokenizer")
    save_model(GPT(config, seed=1), run)
    (run / "assistant.json").write_text("{}")
    digits = CharacterTokenizer.from_text("0123456789 +=\n")
    config = GPTConfig(
        vocab_size=digits.vocab_size, context_length=64, d_model=32, n_layers=1, n_heads=2
    )
    model = GPT(config, seed=1)
    model.token_embedding.weight.data *= 2  # frozen, and it limits the range of the logits
    save_model(model, folder / "runs" / "digits" / "checkpoints" / "step-000001")
    digits.save(folder / "runs" / "digits" / "tokenizer")
    rows = [f'"{text}",{"high" if len(text) % 2 else "low"}' for text in texts]
    (folder / "labels.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    records = [{"instruction": f"say {text}", "output": text.split()[0]} for text in texts]
    (folder / "records.json").write_text(json.dumps(records))
    make_data(folder / "data")
    pairs = [
        {"instruction": f"say {t}", "chosen": t.split()[0], "rejected": t.split()[1]} for t in texts
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs))


def reinforce_digits() -> None:
    """Reinforce with a reward that a small untrained model gets now and then."""
    result = reinforce(
        ReinforceConfig(
            run=Path("runs/digits"),
            out=Path("runs/base/tuned"),
            shots=1,
            test_items=30,
            test_samples=2,
            steps=8,
            batch_size=4,
            checkpoint_every=2,
            learning_rate=0.03,
            lora=LoRAConfig(rank=4),
            threads=1,
        ),
        reward=starts_with_digit,
    )
    assert isinstance(result, ReinforceResult)


def run_command(folder: Path, start: str, name: str) -> None:
    """Run a command in a folder, which begins as a copy of another one."""
    if not folder.exists():
        half = folder.with_name(f"{folder.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(start, half)
        half.rename(folder)
    os.chdir(folder)
    torch.set_num_threads(1)
    if name == "reinforce":
        reinforce_digits()
        return
    with open(os.devnull, "w") as nothing:
        sys.stdout = nothing
        every = EVERY if name == "classify_frozen" else f"{EVERY} {STEPS}"
        status = main([name.split("_")[0], *COMMANDS[name].split(), *every.split()])
    assert status == 0, status


def __getattr__(name: str) -> object:
    """Name a function for each command, which imports the command before the processes fork."""
    command = name.removeprefix("run_")
    if command not in NAMES:
        raise AttributeError(name)
    verb = next(verb for verb in VERBS if verb.name == command.split("_")[0])
    __import__(verb.view.split(":")[0])
    return lambda folder, start: run_command(folder, start, command)
