"""`groundup compare`: several runs beside each other: what differs in them, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import write_text
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.pretraining.curves import draw_curves
from groundup.pretraining.metrics import read_metrics


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Which runs to set beside each other."""

    runs: tuple[str, ...] = ()
    """run folders of pretrain, finished or not"""
    out: Path = Path("compare.svg")
    """the picture of their curves over each other"""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run."""

    name: str
    n_steps: int
    n_targets: int
    elapsed_s: float
    last_loss_nats: float
    best_validation_loss_nats: float | None
    bits_per_byte: float | None
    """from `groundup evaluate`; None: not evaluated yet"""
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs beside each other."""

    rows: tuple[RunRow, ...]
    differences: dict[str, tuple[str, ...]]
    """settings that are not the same in all runs, and their values in the order of `rows`"""
    same_until_step: int
    """the last step up to which all training losses are equal to the last bit"""
    same_vocabulary: bool
    """whether a token is the same in all runs, so that nats a token can be compared"""
    same_text: bool
    """whether the held-out text is the same for all runs: else no figure of theirs compares"""
    picture: Path

    @property
    def best(self) -> RunRow | None:
        """The run with the fewest bits a byte, or the lowest held-out loss; None: neither tells.

        Where vocabularies differ a token is not worth the same, and only bits a byte compare.
        """
        if not self.same_text:
            return None
        bits = [(row.bits_per_byte, row) for row in self.rows if row.bits_per_byte is not None]
        losses = [
            (row.best_validation_loss_nats, row)
            for row in self.rows
            if row.best_validation_loss_nats is not None
        ]
        if len(bits) == len(self.rows):
            return min(bits, key=lambda pair: pair[0])[1]
        if not (self.same_vocabulary and losses):
            return None
        return min(losses, key=lambda pair: pair[0])[1]


def compare(config: CompareConfig) -> Comparison:
    """Set runs beside each other and draw their curves into one picture.

    Raises:
        UserError: Fewer than two runs, one that has made no step, or no place for the picture.
    """
    n_runs = len({Path(name).resolve() for name in config.runs})
    if n_runs < 2 or n_runs < len(config.runs):
        raise UserError(
            f"{n_runs} run to compare" if n_runs < 2 else "a run is named twice",
            need="two different ones or more",
            type_this="groundup compare runs/pretrain runs/pretrain-2",
        )
    if config.out.exists() and config.out.suffix != ".svg":
        raise UserError(
            "this is there already, and is no picture of ours",
            need="another name, or one that ends in .svg",
            where=config.out,
            type_this="--out compare.svg",
        )
    metrics: dict[str, list[dict[str, Any]]] = {}
    settings = []
    for name in config.runs:
        run = RunFolder.open(name)
        settings.append(_flat(run.read_config()))
        metrics[name] = read_metrics(run)
        if not metrics[name]:
            raise UserError("this run has made no step", need="lines in metrics.jsonl", where=name)
    names = sorted({key for each in settings for key in each} - {"out"})
    columns = {key: tuple(str(each.get(key, "-")) for each in settings) for key in names}
    sizes = {each.get("model.vocab_size") for each in settings}
    size = sizes.pop() if len(sizes) == 1 else None
    origins = [_Origin.of(Path(name)) for name in metrics]
    svg = draw_curves(metrics, math.log(size) if isinstance(size, int) else None)
    write_text(config.out, svg)
    return Comparison(
        rows=tuple(_row(name, rows) for name, rows in metrics.items()),
        differences={key: values for key, values in columns.items() if len(set(values)) > 1},
        same_until_step=_same_until(list(metrics.values())),
        same_vocabulary=size is not None and len({each.tokenizer for each in origins}) == 1,
        same_text=len({each.held_out for each in origins}) == 1,
        picture=config.out,
    )


def _row(name: str, rows: list[dict[str, Any]]) -> RunRow:
    results = read_results(Path(name))
    looks = [row["validation_loss_nats"] for row in rows if "validation_loss_nats" in row]
    return RunRow(
        name=name,
        n_steps=rows[-1]["step"],
        n_targets=rows[-1]["n_targets"],
        elapsed_s=rows[-1]["elapsed_s"],
        last_loss_nats=rows[-1]["loss_nats"],
        best_validation_loss_nats=min(looks, default=None),
        bits_per_byte=results.get("evaluate", {}).get("bits_per_byte"),
        finished="pretrain" in results,
    )


@dataclass(frozen=True)
class _Origin:
    """What a run's manifest tells of where it comes from."""

    tokenizer: str | None
    held_out: str | None

    @classmethod
    def of(cls, run: Path) -> "_Origin":
        told = RunFolder(run).read_manifest()
        texts = told.get("corpus_sha256") or {}
        return cls(
            tokenizer=told.get("tokenizer_fingerprint"),
            held_out=texts.get("validation.jsonl"),
        )


def _same_until(runs: list[list[dict[str, Any]]]) -> int:
    same = 0
    for rows in zip(*runs, strict=False):
        if len({(row["step"], row["loss_nats"]) for row in rows}) > 1:
            break
        same = rows[0]["step"]
    return same


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat
