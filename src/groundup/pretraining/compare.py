"""`groundup compare`: the settings in which runs differ, and their results side by side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.config import to_mapping
from groundup.base.errors import UsageError, UserError, quoted
from groundup.base.files import write_text
from groundup.base.folder_kinds import find_run, is_data
from groundup.base.newest_run import list_runs
from groundup.base.results import read_results, written_if_possible
from groundup.base.run import RunFolder
from groundup.evaluation.run_data import documents_of
from groundup.pretraining.config import CompareConfig
from groundup.pretraining.recorded import Recorded
from groundup.train.curves import draw_curves
from groundup.train.metrics import read_metrics

_DECIDE_LOSS = (
    *("run", "labels", "records", "pairs", "data", "seed", "split", "test_frac", "folds"),
    *("validation_frac", "max_test", "text_column", "label_column", "format", "encoding"),
    *("test", "validation", "split_column", "near_duplicate", "n_classes", "passage_characters"),
    *("layout", "skip_invalid", "skip_empty", "overlong", "max_answer_tokens"),
    *("loss", "beta", "label_smoothing", "sft_weight"),
)
"""Settings of a fine-tuning run that decide what its validation loss is: of which examples, and by
which formula."""
_UNITS = {"pretrain": " in nats/token", "instruct": " in nats/token", "classify": " in nats/text"}
"""Unit of the loss of a command; the losses of others have none, or it depends on the settings."""


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
    """From `groundup evaluate`. None: the best checkpoint is not evaluated yet, or the runs are not
    evaluated on the same bytes."""
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The runs side by side."""

    rows: tuple[RunRow, ...]
    differences: dict[str, tuple[str, ...]]
    """Settings that are not the same in all runs: their values in the order of `rows`."""
    same_until_step: int
    """The last step up to which all training losses are bit-identical."""
    same_vocabulary: bool
    """Whether all runs use the same tokenizer, so that nats/token can be compared."""
    same_loss: bool
    """Whether all runs measure the same validation loss: on the same validation set, and by the
    same formula. Otherwise their losses cannot be compared."""
    command: str
    """The command that trained the runs."""
    plot: Path | None
    """None: it could not be written."""

    @property
    def is_fine_tuning(self) -> bool:
        """Whether these are runs of a fine-tuning command, which have no bits per byte."""
        return self.command != "pretrain"

    @property
    def unit(self) -> str:
        """The unit of the losses, as " in nats/token"; "" if there is none."""
        return _UNITS.get(self.command, "")

    @property
    def best(self) -> RunRow | None:
        """The run with the fewest bits per byte, or the lowest validation loss.

        None: they cannot be compared. Nats/token of different vocabularies never can.
        """
        if not self.same_loss:
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


@takes_settings(CompareConfig, "runs")
def compare(config: CompareConfig) -> Comparison:
    """Compare runs and draw their loss curves into one plot.

    Raises:
        UserError: There are fewer than two runs, or one has made no step.
    """
    n_runs = len({Path(name).resolve() for name in config.runs})
    if n_runs < 2 or n_runs < len(config.runs):
        found = "A run is named twice" if n_runs > 1 else f"There is {n_runs} run to compare"
        if n_runs == 0:
            found = "No run is named"
        raise UsageError(
            f"{found}. Two or more different runs are expected.",
            command=_two_runs(),
        )
    if config.out.exists() and config.out.suffix != ".svg":
        raise UserError(
            "This file exists and is not an SVG plot. A name that ends in .svg is expected.",
            where=config.out,
            settings={"out": "compare.svg"},
        )
    metrics: dict[str, list[dict[str, Any]]] = {}
    settings, commands = [], set()
    for name in config.runs:
        run = RunFolder.open(find_run(Path(name)))
        recorded = Recorded.of(run)
        stored = recorded.values
        if recorded.pretraining is not None:
            stored = to_mapping(recorded.pretraining)
        commands.add(recorded.command)
        settings.append(_flat(stored))
        metrics[name] = read_metrics(run)
        if not metrics[name]:
            raise UserError("This run has made no step: its metrics.jsonl is empty.", where=name)
    if len(commands) > 1:
        raise UserError(
            f"These are runs of {' and '.join(sorted(commands))}. Runs of the same command are "
            "expected.",
            command=_two_runs(),
        )
    names = sorted({key for each in settings for key in each} - {"out"})
    columns = {key: tuple(str(each.get(key, "-")) for each in settings) for key in names}
    differences = {key: values for key, values in columns.items() if len(set(values)) > 1}
    is_fine_tuning = commands != {"pretrain"}
    sizes = {each.get("model.vocab_size") for each in settings}
    size = sizes.pop() if len(sizes) == 1 else None
    runs = [RunFolder.of(Path(name)) for name in metrics]
    origins = [_Origin.of(run) for run in runs]
    svg = draw_curves(metrics, math.log(size) if isinstance(size, int) else None)
    is_drawn = written_if_possible(lambda: write_text(config.out, svg))
    return Comparison(
        rows=tuple(map(_row, metrics, metrics.values(), _bits_per_byte(runs))),
        differences=differences,
        same_until_step=_same_until(list(metrics.values())),
        same_vocabulary=is_fine_tuning
        or (size is not None and len({each.tokenizer for each in origins}) == 1),
        same_loss=not _deciding(settings) & differences.keys()
        if is_fine_tuning
        else len({each.validation for each in origins}) == 1,
        command=commands.pop(),
        plot=config.out if is_drawn else None,
    )


def _deciding(settings: list[dict[str, Any]]) -> set[str]:
    """The settings of these fine-tuning runs that decide what their validation losses are."""
    # Labeled texts do not come from the model's run, and their loss does not depend on its tokens.
    return set(_DECIDE_LOSS) - ({"run"} if all("labels" in each for each in settings) else set())


def _two_runs() -> str:
    """Return the command that compares the two newest runs, or that makes another run."""
    runs = [quoted(run.path) for run in list_runs() if run.metrics_path.is_file()]
    if len(runs) > 1:
        return f"groundup compare {runs[1]} {runs[0]}"
    return "groundup pretrain" if is_data(Path("data")) else "groundup story"


def _bits_per_byte(runs: list[RunFolder]) -> list[float | None]:
    """The bits per byte of the best checkpoints, if all were measured on the same bytes."""
    bits: list[float | None] = []
    measured_on = set()
    for run in runs:
        best, found = run.best(), read_results(run.path).get("evaluate", {})
        is_best = best is not None and found.get("checkpoint") == best.name
        bits.append(found.get("bits_per_byte") if is_best else None)
        if is_best:
            measured_on.add((_how(found.get("documents", "stream")), found.get("n_bytes")))
    return bits if len(measured_on) < 2 else [None] * len(runs)


def _how(documents: str) -> str:
    """How windows hold documents, as far as it decides what the targets are."""
    return "packed" if documents == "padded" else documents


def _row(name: str, rows: list[dict[str, Any]], bits_per_byte: float | None) -> RunRow:
    run = RunFolder.of(Path(name))
    losses = [row["validation_loss_nats"] for row in rows if "validation_loss_nats" in row]
    return RunRow(
        name=name,
        n_steps=rows[-1]["step"],
        n_targets=rows[-1]["n_targets"],
        elapsed_s=rows[-1]["elapsed_s"],
        last_loss_nats=rows[-1]["loss_nats"],
        best_validation_loss_nats=min(losses, default=None),
        bits_per_byte=bits_per_byte,
        finished="pretrain" in read_results(run.path) or run.is_finished,
    )


@dataclass(frozen=True)
class _Origin:
    """The tokenizer and the validation set of a run, from its manifest."""

    tokenizer: str | None
    validation: tuple[object, ...]
    """The validation texts with their weights, and how windows hold documents: separate documents
    have other targets, with another context."""

    @classmethod
    def of(cls, run: RunFolder) -> "_Origin":
        manifest = run.read_manifest()
        texts = manifest.get("mix") or [manifest]
        # The order of a mixture changes nothing, except for the rounding of the weights.
        weighted = sorted(
            (_validation_checksum(each), round(each.get("weight", 1.0), 9)) for each in texts
        )
        return cls(
            tokenizer=manifest.get("tokenizer_fingerprint"),
            validation=(*weighted, _how(documents_of(run))),
        )


def _validation_checksum(text: dict[str, Any]) -> str:
    """A checksum of a validation text, or of its tokens where there is no corpus."""
    of_corpus = (text.get("corpus_sha256") or {}).get("validation.jsonl")
    return str(of_corpus or text.get("validation_fingerprint"))


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
