"""Compare training on one GPU with nanoGPT's model in plain torch and with transformers.

    python benchmarks/bench_gpu.py [--text FILE --tokenizer GPT2_TOKENIZER_FOLDER] [--out FOLDER]
    python benchmarks/bench_gpu.py --tiny          # tiny models on a CPU: does it run?

One call takes less than eight minutes; parts that no longer fit into `--minutes` are left out, and
`--only` names the parts to run. Every row is a process of its own. groundup runs as the real
command `groundup pretrain`; the peers are in benchmarks/peer_gpu.py. Speeds are those of the steps
after the first ones, which compile. The share of the peak is that of the fastest matrix product of
this GPU, in model FLOPs. Without a text the tokens are random: the speeds are the same, the losses
mean nothing.

`--only variants` measures CUDA graphs and other ways to compile in a bare loop.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_bare import VARIANTS, bare_tokens_per_s
from gpu_data import character_data, random_data, write_documents

from groundup.base.config import from_mapping, read_recipe
from groundup.base.fields import leaves
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.data.store import TokenStore
from groundup.model.config import GPTConfig
from groundup.model.count import flops_per_token
from groundup.planning.memory import count_memory
from groundup.train.config import PretrainConfig

HERE = Path(__file__).resolve().parent
QUIET = "--validate-every none --sample-every none --checkpoint-every 1000000 --no-curves"
ADAMW = "--optimizer adamw --learning-rate 6e-4 --weight-decay 0.1 --max-grad-norm 1"
GPT2 = (
    "--norm layer --norm-eps 1e-5 --positions learned --no-qk-norm --activation gelu --init gpt2 "
    + ADAMW
)
"""nanoGPT trains GPT-2's shape without biases, and so does this."""
OWN = "--norm layer --activation relu2 --qk-gain 2 --weight-decay 0.1"
CHARACTERS = (  # of our own recipe for characters on a GPU
    "--norm layer --activation relu2 --no-tie-embeddings --qk-gain 2 --rotary-base 1024 "
    "--qkv-bias --look-back --norm-learning-rate 0.003 --weight-decay 0.3 --dropout 0.2 "
    "--batch-size 64"
)


_GPT2_SHAPE = {"context_length": 1024, "d_model": 768, "n_layers": 12, "n_heads": 12}
_GPT2_CHOICES = {
    "positions": "learned",
    "activation": "gelu",
    "norm": "layer",
    "qk_norm": False,
    "init": "gpt2",
}
_CHARACTERS = {"context_length": 256, "d_model": 384, "n_layers": 6, "n_heads": 6}
_TINY = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}


@dataclass(kw_only=True)
class Sizes:
    """The sizes of the runs: those of a GPU, or tiny ones."""

    device: str = "cuda"
    vocab_size: int = 50_257
    shape: dict[str, int] = field(default_factory=lambda: _GPT2_SHAPE)
    batch_size: int = 32
    steps: int = 60
    accumulate: int = 16
    """Parts of a large batch: 16 x 32 x 1,024 are half a million tokens."""
    large_steps: int = 20
    random_tokens: int = 4_000_000
    characters: dict[str, int] = field(default_factory=lambda: _CHARACTERS)
    peer_character_steps: int = 1500
    character_steps: int = 450
    budget: str = "30s"


TINY = Sizes(
    device="cpu",
    vocab_size=300,
    shape=_TINY,
    batch_size=4,
    steps=6,
    accumulate=2,
    large_steps=4,
    random_tokens=4000,
    characters=_TINY,
    peer_character_steps=4,
    character_steps=4,
    budget="",
)


class Bench:
    """The parts of the benchmark, their data, and the rows of the table."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.sizes = TINY if options.tiny else Sizes()
        self.began_at = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.peak_flops_per_s = math.nan
        self.compiles = not options.tiny

    # The parts, the most important ones first.

    def peak(self) -> None:
        size = 256 if self.options.tiny else 8192
        dtype = torch.float32 if self.options.tiny else torch.bfloat16
        a, b = (torch.randn(size, size, device=self.sizes.device).to(dtype) for _ in range(2))
        spans = []
        for _ in range(30):
            self._wait()
            began_at = time.perf_counter()
            a @ b
            self._wait()
            spans.append(time.perf_counter() - began_at)
        self.peak_flops_per_s = 2 * size**3 / sorted(spans)[len(spans) // 4]
        print(f"matrix products: {self.peak_flops_per_s / 1e12:,.1f} TFLOP/s", flush=True)

    def nanogpt(self) -> None:
        self._peer("nanoGPT's model, compiled", compile=self.compiles)

    def gpt2(self) -> None:
        self._ours("groundup, GPT-2 shape", f"{GPT2} --compile {self._on()}")

    def large(self) -> None:
        sizes, parts = self.sizes, self.sizes.accumulate
        rows = parts * sizes.batch_size
        self._peer(
            f"nanoGPT's model, {parts} parts a step",
            compile=self.compiles,
            accumulate=parts,
            steps=sizes.large_steps,
            untimed=3,
        )
        self._ours(
            f"groundup, own architecture with Muon, {parts} parts a step",
            f"{OWN} --grad-accumulation-steps {parts} --compile {self._on()}",
            batch_size=rows,
            steps=sizes.large_steps,
            untimed=3,
        )

    def own(self) -> None:
        self._ours("groundup, own architecture with Muon", f"{OWN} --compile {self._on()}")

    def characters(self) -> None:
        sizes, data = self.sizes, self._character_data()
        vocab_size = TokenStore.open(data / "train").vocab_size
        shape = {**sizes.characters, "vocab_size": vocab_size, "batch_size": 64}
        shape |= {"dropout": 0.2, "learning_rate": 1e-3, "beta2": 0.99}
        every = max(1, sizes.peer_character_steps // 6)
        steps = {"steps": sizes.peer_character_steps, "evaluate_every": every, "untimed": every}
        found = self._run_peer("nanogpt", data, compile=self.compiles, **shape, **steps)
        for step, nats, seconds in found["validations"]:
            print(f"  nanoGPT's recipe, step {step}: {nats:.4f} after {seconds:.1f} s", flush=True)
        _, nats, seconds = min(found["validations"], key=lambda row: row[1])
        self._row("nanoGPT's recipe for characters", found, loss=nats, seconds=seconds)
        given = " ".join(f"--{n.replace('_', '-')} {v}" for n, v in sizes.characters.items())
        whole = "--validate-every none --validation-windows 100000 --sample-every none --no-curves"
        runs = {
            "groundup, own recipe for characters": f"{given} {CHARACTERS} {whole} --compile off "
            f"--steps {sizes.character_steps} --checkpoint-every 1000000",
            f"groundup --budget {sizes.budget}": f"--budget {sizes.budget}",
        }
        for name, words in runs.items():
            if "--budget " in words and not sizes.budget:
                continue
            run, seconds = self._pretrain(data, words)
            result = read_results(run)["pretrain"]
            self._row(name, result, loss=result["validation_loss_nats"], seconds=seconds)

    def eager(self) -> None:
        self._peer("nanoGPT's model, eager", compile=False, steps=self.sizes.steps // 2)
        self._ours(
            "groundup, GPT-2 shape, eager", f"{GPT2} --compile off", steps=self.sizes.steps // 2
        )

    def transformers(self) -> None:
        settings = {"compile": False, "steps": self.sizes.steps // 2, "untimed": 3}
        self._peer("transformers GPT-2, eager", side="transformers", **settings)

    def deterministic(self) -> None:
        words = f"{GPT2} --compile off --deterministic"
        self._ours("groundup, eager, --deterministic", words, steps=self.sizes.steps // 2)

    def documents(self) -> None:
        if "documents" in leaves(PretrainConfig):
            words = f"{GPT2} --compile {self._on()} --documents isolated"
            self._ours("groundup, --documents isolated", words)

    def variants(self) -> None:
        """How `torch.compile` is asked; on request, for every variant compiles for a minute."""
        sizes = self.sizes
        shapes = {
            "characters": ({"vocab_size": 65, **sizes.characters}, 64),
            "GPT-2": ({"vocab_size": sizes.vocab_size, **_GPT2_CHOICES, **sizes.shape}, 32),
        }
        for model, (shape, rows) in shapes.items():
            for name in VARIANTS:
                if self.left_s() < 60:
                    break
                speed = bare_tokens_per_s(
                    name, shape, device=sizes.device, batch_size=rows, steps=sizes.steps
                )
                print(f"{model}, bare loop, {name:<30} {speed:10,.0f} tokens/s", flush=True)

    # How a row is made.

    def _ours(
        self, name: str, words: str, *, batch_size: int = 0, steps: int = 0, untimed: int = 0
    ) -> None:
        sizes, steps = self.sizes, steps or self.sizes.steps
        untimed = min(untimed or steps // 3, steps // 2)
        shape = " ".join(f"--{n.replace('_', '-')} {v}" for n, v in sizes.shape.items())
        batch = f"--batch-size {batch_size or sizes.batch_size} --steps {steps}"
        whole = f"{QUIET} --validation-windows 100000"
        dtype = "" if self.options.tiny else "--dtype bf16"
        run, seconds = self._pretrain(self._data(), f"{shape} {words} {batch} {whole} {dtype}")
        rows = RunFolder(run).read_metrics()
        first, last = rows[untimed - 1], rows[-1]
        n_tokens = last["n_targets"] - first["n_targets"]
        config = from_mapping(PretrainConfig, read_recipe(RunFolder(run).config_path))
        result = read_results(run)["pretrain"]
        found = {
            "tokens_per_s": n_tokens / max(1e-3, last["elapsed_s"] - first["elapsed_s"]),
            "peak_bytes": result["peak_memory_bytes"],
            "planned_bytes": sum(count_memory(config).values()),
            "planned": count_memory(config),
            "waited_ms": 1000 * sum(row["waited_s"] for row in rows[untimed:]) / (steps - untimed),
            "flops_per_token": flops_per_token(config.model),
        }
        self._row(name, found, loss=result["validation_loss_nats"], seconds=seconds)

    def _pretrain(self, data: Path, words: str) -> tuple[Path, float]:
        run = self.folder / f"run-{len(self.rows)}-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "groundup.cli.main", "pretrain", str(data)]
        command += [*words.split(), "--out", str(run), "--device", self.sizes.device]
        return run, self._timed(command)[1]

    def _peer(self, name: str, *, side: str = "nanogpt", **settings: Any) -> None:
        sizes = self.sizes
        shape = {**sizes.shape, "vocab_size": -(-sizes.vocab_size // 64) * 64}
        usual = {"steps": sizes.steps, "untimed": sizes.steps // 3, "batch_size": sizes.batch_size}
        began_at = time.monotonic()
        found = self._run_peer(side, self._data(), **{**shape, **usual, **settings})
        # As counted for groundup, with the vocabulary of the data.
        shape = {"vocab_size": sizes.vocab_size, **_GPT2_CHOICES, **sizes.shape}
        config = from_mapping(GPTConfig, shape)
        found["flops_per_token"] = flops_per_token(config)
        loss, seconds = found["validations"][-1][1], time.monotonic() - began_at
        self._row(name, found, loss=loss, seconds=seconds)

    def _run_peer(self, side: str, data: Path, **settings: Any) -> dict[str, Any]:
        files = {}
        for name in ("train", "validation"):
            file = data / f"{name}.npy"
            if not file.is_file():
                store = TokenStore.open(data / name)
                np.save(file, store.read(0, store.n_tokens).astype(np.int64))
            files[name] = str(file)
        job = {"side": side, "device": self.sizes.device, **files, **settings}
        output, _ = self._timed([sys.executable, str(HERE / "peer_gpu.py"), json.dumps(job)])
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found

    def _timed(self, command: list[str]) -> tuple[str, float]:
        began_at = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.left_s() + 60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
        return done.stdout, time.monotonic() - began_at

    def _row(self, name: str, found: dict[str, Any], *, loss: float, seconds: float) -> None:
        row = {"name": name, **found, "loss": loss, "seconds": seconds}
        row["share"] = found.get("flops_per_token", math.nan) * found["tokens_per_s"]
        row["share"] /= self.peak_flops_per_s
        self.rows.append(row)
        print(_written(row), flush=True)

    def left_s(self) -> float:
        return float(60 * self.options.minutes - (time.monotonic() - self.began_at))

    def _on(self) -> str:
        return "on" if self.compiles else "off"

    def _wait(self) -> None:
        if self.sizes.device == "cuda":
            torch.cuda.synchronize()

    def _data(self) -> Path:
        data = self.folder / "data"
        if not data.is_dir():
            text, tokenizer = self.options.text, self.options.tokenizer
            if text is None or tokenizer is None:
                random_data(data, self.sizes.vocab_size, self.sizes.random_tokens)
            else:
                write_documents(text, source := self.folder / "documents.jsonl")
                words = ["prepare", str(source), "--tokenizer", str(tokenizer), "--out", str(data)]
                self._timed([sys.executable, "-m", "groundup.cli.main", *words])
                self.sizes.vocab_size = TokenStore.open(data / "train").vocab_size
        return data

    def _character_data(self) -> Path:
        data = self.folder / "characters"
        if not data.is_dir():
            most = 4000 if self.options.tiny else None
            character_data(data, self.options.text, most)
        return data


PARTS = "nanogpt gpt2 large characters own eager transformers deterministic documents".split()  # noqa: SIM905
NEEDED_S = {"nanogpt": 70, "gpt2": 80, "large": 140, "characters": 120, "own": 80, "eager": 40}


def _written(row: dict[str, Any]) -> str:
    memory = row.get("peak_bytes", row.get("peak_memory_bytes", 0)) / 1e9
    planned = f" (plan {row['planned_bytes'] / 1e9:5.1f})" if "planned_bytes" in row else " " * 13
    waited = f", loader {row['waited_ms']:.2f} ms a step" if "waited_ms" in row else ""
    return (
        f"{row['name']:<62} {row['tokens_per_s']:10,.0f} tokens/s {row['share']:5.0%} "
        f"{memory:6.1f} GB{planned} loss {row['loss']:.4f} {row['seconds']:6.1f} s{waited}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, help="text of the losses; default: random tokens")
    parser.add_argument("--tokenizer", type=Path, help="folder with GPT-2's tokenizer")
    parser.add_argument("--out", type=Path, help="folder for gpu.json")
    parser.add_argument("--only", default=" ".join(PARTS), help="parts to run")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    bench = Bench(options, folder)
    device = "CPU" if options.tiny else torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}")
    failed = []
    try:
        bench.peak()
        for part in options.only.split():
            if bench.left_s() < NEEDED_S.get(part, 30):
                print(f"left out, no time: {part}")
                continue
            try:
                getattr(bench, part)()
            except Exception as error:  # the other parts still count
                failed.append(part)
                print(f"{part} failed: {error}", flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"\n{device}, torch {torch.__version__}, {bench.peak_flops_per_s / 1e12:,.0f} TFLOP/s")
    for row in bench.rows:
        print(_written(row))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(bench.rows, indent=1))
    if failed:
        raise SystemExit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
