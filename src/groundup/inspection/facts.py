"""What a run achieved, in one sentence, four figures and its best sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from groundup.base.duration import span
from groundup.base.errors import UserError
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.loss import evaluate_loss
from groundup.evaluation.paired import Difference
from groundup.finetune.classify.result import FROZEN, TUNED, Comparison
from groundup.inspection.run_results import RunResults
from groundup.text.catalog import in_words

_MOST_ROWS = 14
_MOST_POINTS = 400
_MOST_SOURCES = 2


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of the first screen."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class BestSample:
    """A generated text."""

    prompt: str
    text: str
    setting: str
    """How it was sampled and chosen."""


def sentence(results: RunResults) -> str:
    """State the result of a run in one sentence."""
    trained, evaluated = results.stages.get("pretrain"), results.stages.get("evaluate")
    size = n_parameters(results)
    model = results.language_model
    what = "An imported model" if results.run.is_imported else "A model"
    what = "An assistant" if model is not None and model.is_assistant else what
    who = what if size is None else f"{what} of {short_count(size)} parameters"
    if trained is None:
        return who + ending(evaluated, "")
    text = source_names(results.stages.get("prepare"))
    where = " on a CPU" if _is_on_cpu(results.manifest) else ""
    did = f"{who} learned {text} in {span(trained['elapsed_s'], in_words=True)}{where}"
    if evaluated is not None:
        return did + ending(evaluated, " and")
    before, after = trained["first_validation_loss_nats"], trained["validation_loss_nats"]
    return f"{did}: its validation loss fell from {before:.2f} to {after:.2f} nats/token."


def ending(evaluated: Mapping[str, Any] | None, link: str) -> str:
    """Say how the model compares with xz, after a link such as " and"."""
    if evaluated is None:
        return "."
    percent = round(100 - 100 * evaluated["bits_per_byte"] / evaluated["xz_bits_per_byte"])
    if percent == 0:
        return f"{link} needs as many bits as xz."
    if percent > 0:
        return f"{link} beats xz by {percent} %."
    return f"{link} needs {-percent} % more bits than xz."


def figures(results: RunResults) -> list[Figure]:
    """Choose up to four numbers, the most telling first."""
    stages, found = results.stages, []
    if (e := stages.get("evaluate")) is not None:
        xz, ngram = e["xz_bits_per_byte"], e["ngram_bits_per_byte"]
        others = f"xz {xz:.2f}, n-gram {ngram:.2f}"
        found.append(Figure(value=f"{e['bits_per_byte']:.2f}", name="bits per byte", note=others))
    if (p := stages.get("pretrain")) is not None:
        before = f"{p['first_validation_loss_nats']:.2f} before training"
        loss = f"{p['validation_loss_nats']:.2f}"
        found.append(Figure(value=loss, name="validation loss, nats/token", note=before))
        speed = f"{p['tokens_per_s']:,.0f} tokens/s"
        time = span(p["elapsed_s"])
        found.append(Figure(value=time, name="training time", note=speed))
    if (size := n_parameters(results)) is not None:
        found.append(Figure(value=short_count(size), name="parameters", note=_shape(results)))
    if (t := stages.get("train-tokenizer")) is not None and len(found) < 4:
        found.append(Figure(value=f"{t['vocab_size']:,}", name="tokens in the vocabulary"))
    if (d := stages.get("prepare")) is not None and len(found) < 4:
        found.append(Figure(value=short_count(d["train"]["n_bytes"]), name="bytes of text"))
    return found[:4]


def best_sample(results: RunResults) -> BestSample | None:
    """Choose the sample that the model itself finds most likely, not the greedy one.

    A greedy text is always likely, and it repeats itself.
    """
    if lines := results.stages.get("ending", {}).get("lines"):
        text = "\n".join(lines)
        return BestSample(prompt="", text=text, setting="the likeliest of several samples")
    made = results.stages.get("generate")
    if made is None or not made["samples"]:
        return None
    drawn = [s for s in made["samples"] if not s["setting"].startswith("temperature 0 ")]
    drawn = [s for s in drawn or made["samples"] if s["text"].strip()] or made["samples"][:1]
    texts = [made["prompt"] + sample["text"] for sample in drawn]
    best, chosen = drawn[0], ""
    if results.language_model is not None and len(drawn) > 1:
        losses = [_loss(results.language_model, text) for text in texts]
        best = drawn[int(np.argmin(losses))]
        chosen = f"; of {len(drawn)} samples the one with the lowest loss"
    return BestSample(prompt=made["prompt"], text=best["text"], setting=best["setting"] + chosen)


def _loss(language_model: LanguageModel, text: str) -> float:
    try:
        ids = np.array(language_model.tokenizer.encode(text), dtype=np.int64)
        return evaluate_loss(language_model.model, ArrayTokens(ids)).nats
    except UserError:  # too short to have a target
        return float("inf")


def plan_rows(results: RunResults) -> list[list[str]]:
    """Compare what was planned with what came: name, predicted, measured, difference."""
    plan, run = results.stages.get("plan"), results.stages.get("pretrain")
    if plan is None or run is None:
        return []
    low, high = plan["last_loss_nats"]
    loss = run["validation_loss_nats"]
    place = "as predicted" if low <= loss <= high else "lower" if loss < low else "higher"
    rows = [["validation loss, nats/token", f"{low:.2f} to {high:.2f}", f"{loss:.2f}", place]]
    if run["resumed_from_step"]:  # time and memory are those of the last session only
        return rows
    for name, planned, measured, show in (
        ("training time", plan["total_s"], run["elapsed_s"], partial(span, in_words=True)),
        ("peak memory", plan["total_memory_bytes"], run["peak_memory_bytes"], _megabytes),
    ):
        rows.append(
            [name, show(planned), show(measured), f"{100 * (measured / planned - 1):+.0f} %"]
        )
    return rows


def saved_classifier(results: RunResults) -> str:
    """Name the classifier that was saved, as the table of scores does."""
    return TUNED.get(results.stages.get("classify", {}).get("method", ""), FROZEN)


def classifier_verdict(results: RunResults) -> str | None:
    """Say whether the classifier is better than its baselines. None: this was not recorded."""
    found = results.stages.get("classify", {}).get("comparisons")
    if not found:
        return None
    values: dict[str, Any] = {
        k: Difference(**v) if isinstance(v, dict) else v for k, v in found[-1].items()
    }
    return Comparison(**values).sentence


def step_rows(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Choose rows that show the whole run: the first steps, validations, and the last step."""
    if not metrics:
        return []
    middle = [row for row in metrics if row.get("validation_loss_nats") is not None] or metrics
    places = np.linspace(0, len(middle) - 1, min(_MOST_ROWS, len(middle))).round()
    chosen = [*metrics[:2], *(middle[int(place)] for place in places), metrics[-1]]
    return list({row["step"]: row for row in chosen}.values())


def curve(results: RunResults) -> dict[str, Any]:
    """Give the points of the loss curve, averaged where there are too many to see."""
    metrics, trained = results.metrics, results.stages.get("pretrain", {})
    size = -(-len(metrics) // _MOST_POINTS) or 1
    parts = [metrics[start : start + size] for start in range(0, len(metrics), size)]
    plan = results.stages.get("plan", {})
    return {
        "train": [
            [
                round(float(np.mean([row["step"] for row in part])), 1),
                round(float(np.mean([row["loss_nats"] for row in part])), 4),
            ]
            for part in parts
        ],
        "validation": [
            [row["step"], round(row["validation_loss_nats"], 4)]
            for row in metrics
            if row.get("validation_loss_nats") is not None
        ],
        "uniform": plan.get("first_loss_nats"),
        "best": trained.get("best_step"),
    }


def source_names(prepared: Mapping[str, Any] | None) -> str:
    """Name the texts that were learned."""
    names = [in_words(source) for source in (prepared or {}).get("sources", [])]
    if not names:
        return "its text"
    return " and ".join(names) if len(names) <= _MOST_SOURCES else f"{len(names)} texts"


def n_parameters(results: RunResults) -> int | None:
    """Count the parameters of the model."""
    if results.language_model is not None:
        return sum(p.numel() for p in results.language_model.model.parameters())
    known = results.stages.get("pretrain", {}).get("n_parameters")
    return int(known) if known is not None else None


def short_count(n: int) -> str:
    """Write a count with three digits.

    >>> short_count(950), short_count(36_992), short_count(1_972_000), short_count(1_540_000_000)
    ('950', '37.0 k', '1.97 M', '1.54 G')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            value = n / size
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return str(n)


def _megabytes(n_bytes: float | int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"


def _is_on_cpu(manifest: Mapping[str, Any]) -> bool:
    """Whether the run cannot have used a GPU: its torch was built for CPUs."""
    return str(manifest.get("versions", {}).get("torch", "")).endswith("+cpu")


def _shape(results: RunResults) -> str:
    if results.language_model is None:
        return ""
    config = results.language_model.model.config
    layers = "1 layer" if config.n_layers == 1 else f"{config.n_layers} layers"
    return f"{layers}, width {config.d_model}, context {config.context_length:,}"
