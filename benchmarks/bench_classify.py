"""Check the classifier on SMS spam against its bars, beside character TF-IDF on the same rows.

    python benchmarks/bench_classify.py RUN LABELS [--story RUN]

RUN is an imported SmolLM2-135M, LABELS the SMS Spam Collection. The frozen recipe: the model is run
once over each text, logistic regression with C = 0.1 is fit to the standardized mean and last
hidden state. Its settings were chosen on the resplits 0 to 4; the resplits 5 to 14 are new.

1. Ten resplits as in chapter 6 of the book (747 + 747 texts, 70 : 10 : 20), seeds 5 to 14.
2. All texts, five folds that keep near duplicates together.
3. The model of `groundup story`, without a bar.

Times are CPU-seconds of one core (user + system).
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from groundup.base.device import choose_dtype
from groundup.evaluation.load import load
from groundup.finetune.classify.baselines import CHARACTERS, TfidfClassifier
from groundup.finetune.classify.calibration import losses
from groundup.finetune.classify.classifier import encode_texts
from groundup.finetune.classify.features import hidden_features
from groundup.finetune.classify.frozen import fit_head, head_probabilities
from groundup.finetune.classify.metrics import score
from groundup.records.labels import read_labels
from groundup.records.splits import Split, book_split, folds
from groundup.text.config import FileConfig
from groundup.text.near_duplicates import group_near_duplicates, has_near_duplicate

NAMES = ("ham", "spam")
SEEDS = range(5, 15)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--story", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = read_labels(options.labels, FileConfig(format="tsv-pandas")).rows
    texts, labels = [row.text for row in rows], [NAMES.index(row.label) for row in rows]
    print(
        f"{options.labels.name}: {len(texts):,} texts, {sum(labels)} spam; "
        f"torch {torch.__version__}"
    )
    some = sorted(set(_rows(book_split([NAMES[k] for k in labels], seed=5))))
    _, alone_s, n_alone = features_of(options.run, [texts[row] for row in some])
    print(f"trunk: {len(some):,} texts, {n_alone:,} tokens, {alone_s:.1f} CPU-s", flush=True)
    states, trunk_s, n_tokens = features_of(options.run, texts)
    print(
        f"trunk: {len(texts):,} texts, {n_tokens:,} tokens, {trunk_s:.1f} CPU-s "
        f"({n_tokens / trunk_s:,.0f} tokens/CPU-s)",
        flush=True,
    )
    frozen = resplits(states, texts, labels, alone_s)
    full(states, texts, labels)
    if options.story is not None:
        states, story_s, n_tokens = features_of(options.story, texts)
        print(
            f"\nthe model of story: {n_tokens:,} tokens, {story_s:.1f} CPU-s; resplits of seeds 5 "
            "to 14"
        )
        show("frozen model of story", measure(states, texts, labels)[0])
        show("frozen SmolLM2", frozen)


def _rows(split: Split) -> list[int]:
    return [*split.train, *split.validation, *split.test]


def features_of(run: Path, texts: Sequence[str]) -> tuple[NDArray[np.float32], float, int]:
    """Hidden states, CPU-seconds and tokens."""
    model = load(run)
    ids = [row[: model.model.config.context_length] for row in encode_texts(texts, model.tokenizer)]
    is_small = sum(p.numel() for p in model.model.parameters()) < 20_000_000
    dtype = torch.float32 if is_small else choose_dtype("auto", torch.device("cpu"))
    started_s = time.process_time()
    states = hidden_features(model.model, ids, pooling="mean+last", dtype=dtype)
    return states, time.process_time() - started_s, sum(map(len, ids))


Row = dict[str, float]


def measure(
    states: NDArray[np.float32], texts: Sequence[str], labels: Sequence[int]
) -> tuple[list[Row], list[Row], list[Row], float]:
    """Scores of the frozen model, of character TF-IDF and of their average on each resplit."""
    found: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    fit_s = 0.0
    for seed in SEEDS:
        split = book_split([NAMES[k] for k in labels], seed=seed)
        targets = [labels[row] for row in split.train]
        started_s = time.process_time()
        head = fit_head(states[split.train], targets, 2, C=0.1)
        frozen = head_probabilities(head, states[split.test])
        fit_s += (time.process_time() - started_s) / len(SEEDS)
        baseline = TfidfClassifier(CHARACTERS).fit([texts[row] for row in split.train], targets)
        tfidf = baseline.probabilities([texts[row] for row in split.test])
        known = [texts[row] for row in [*split.train, *split.validation]]
        has_near = has_near_duplicate([texts[row] for row in split.test], known)
        for rows, p in zip(found, (frozen, tfidf, (frozen + tfidf) / 2), strict=True):
            rows.append(scores(p, [labels[row] for row in split.test], np.array(has_near)))
    return *found, fit_s


def scores(p: NDArray[np.float64], labels: Sequence[int], has_near: NDArray[np.bool_]) -> Row:
    truth = np.array(labels)
    right, loss = p.argmax(axis=1) == truth, losses(p, labels)
    every = score(p, labels, NAMES, positive=1)
    assert every is not None
    assert every.auc is not None
    return {
        "accuracy": 100 * right.mean(),
        "no near": 100 * right[~has_near].mean(),
        "log loss": loss.mean(),
        "log loss no near": loss[~has_near].mean(),
        "AUC": every.auc,
    }


def resplits(
    states: NDArray[np.float32], texts: Sequence[str], labels: Sequence[int], trunk_s: float
) -> list[Row]:
    frozen, tfidf, both, fit_s = measure(states, texts, labels)
    print("\nten resplits, seeds 5 to 14: mean +- standard deviation")
    for name, rows in (("frozen", frozen), ("character TF-IDF", tfidf), ("average", both)):
        show(name, rows)
    gains = [a["accuracy"] - b["accuracy"] for a, b in zip(frozen, tfidf, strict=True)]
    ahead = sum(gain > 0 for gain in gains)
    print(f"frozen - TF-IDF: {_spread(gains, 2)} points, ahead on {ahead} of {len(gains)}")
    bar("accuracy, %", _mean(frozen, "accuracy"), at_least=98.0)
    bar("accuracy without near duplicates, %", _mean(frozen, "no near"), at_least=97.3)
    bar("log loss, nats", _mean(frozen, "log loss"), at_most=0.060)
    bar("points ahead of character TF-IDF", statistics.mean(gains), at_least=0.6)
    bar("CPU-s of a seed with its trunk", trunk_s + fit_s, at_most=60.0)
    print(f"  fit and test of a seed alone: {fit_s:.3f} CPU-s")
    return frozen


def full(states: NDArray[np.float32], texts: Sequence[str], labels: Sequence[int]) -> None:
    groups = group_near_duplicates(texts).group
    divided = folds([NAMES[k] for k in labels], groups, 5, seed=0)
    found: dict[str, list[Row]] = {"frozen": [], "character TF-IDF": [], "average": []}
    for test in divided:
        train = sorted(set(range(len(texts))) - set(test))
        targets = [labels[row] for row in train]
        frozen = head_probabilities(fit_head(states[train], targets, 2, C=0.1), states[test])
        baseline = TfidfClassifier(CHARACTERS).fit([texts[row] for row in train], targets)
        tfidf = baseline.probabilities([texts[row] for row in test])
        near = np.zeros(len(test), dtype=bool)
        for rows, p in zip(found.values(), (frozen, tfidf, (frozen + tfidf) / 2), strict=True):
            rows.append(scores(p, [labels[row] for row in test], near))
    print(f"\nall {len(texts):,} texts, five folds without near duplicates across folds")
    for name, rows in found.items():
        show(name, rows)
    bar("log loss of the average, nats", _mean(found["average"], "log loss"), at_most=0.031)
    bar("AUC of the average", _mean(found["average"], "AUC"), at_least=0.9965)


def show(name: str, rows: Sequence[Row]) -> None:
    digits = {"accuracy": 2, "no near": 2, "log loss": 4, "log loss no near": 4, "AUC": 4}
    cells = [f"{key} {_spread([r[key] for r in rows], n)}" for key, n in digits.items()]
    print(f"  {name:<22} {'  '.join(cells)}")


def bar(
    name: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> None:
    limit, sign = (at_least, ">=") if at_least is not None else (at_most, "<=")
    assert limit is not None
    is_met = value >= limit if sign == ">=" else value <= limit
    print(f"  {'met ' if is_met else 'MISSED'}  {name}: {value:.4f} (bar {sign} {limit})")


def _mean(rows: Sequence[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
