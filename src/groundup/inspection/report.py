"""`report.html`: all results of a run with figures, in one file that needs no network.

It reads only the results that the commands left in the run folder and its data folder. A section
whose command has not been run yet names the command. The template escapes all text of the user.
"""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from groundup.base.config import from_mapping
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_text
from groundup.base.results import read_results, written_if_possible
from groundup.base.run import RunFolder
from groundup.evaluation.load import load
from groundup.evaluation.run_data import data_of
from groundup.inspection.capture import capture
from groundup.planning.memory import settings_sha256
from groundup.tokenizer.show import visible
from groundup.train.config import PretrainConfig
from groundup.train.curves import draw_curves

LONGEST_SENTENCE = 24
"""Tokens of a sentence whose attention is shown, at most."""


def write_report(run: Path | str, *, text: str | None = None) -> Path | None:
    """Write RUN/report.html and return its path; None if it cannot be written.

    Args:
        run: The run folder.
        text: The sentence whose attention is shown. None: the line that train-tokenizer showed.

    Raises:
        UserError: There is no run folder.
    """
    folder = RunFolder.open(run)
    stages, data_problem = _stages(folder)
    if "plan" in stages and not _is_planned(folder, stages["plan"]):
        del stages["plan"]  # it was made for another run on the same data
    if text is None:
        text = stages.get("train-tokenizer", {}).get("line", "The quick brown fox")
    metrics = folder.read_metrics(names=("loss_nats",))
    expected = stages.get("plan", {}).get("first_loss_nats")
    page = (
        page_templates()
        .get_template("report.html")
        .render(
            name=str(folder.path),
            stages=stages,
            data_problem=data_problem,
            curve=Markup(_curve(folder, metrics, expected)) if metrics else None,
            updates=[row for row in metrics if "weight" in row and "grad_norm" in row][:4],
            attention=_attention(folder.path, text),
        )
    )
    is_written = written_if_possible(lambda: write_text(folder.report, page))
    return folder.report if is_written else None


def page_templates() -> jinja2.Environment:
    """Load the templates of the pages; text of the user is escaped by default."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundup.inspection"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["quoted"] = quoted
    environment.filters["number"] = _number
    return environment


def _stages(run: RunFolder) -> tuple[dict[str, Any], str | None]:
    """Read the results of all commands, and why those of the data are missing, if they are."""
    try:
        return read_results(data_of(run)) | read_results(run.path), None
    except UserError as error:
        return read_results(run.path), error.located


def _is_planned(run: RunFolder, plan: dict[str, Any]) -> bool:
    """Whether a plan was made for the settings of this run."""
    try:
        config = from_mapping(PretrainConfig, run.read_config(), where=run.config_path)
    except UserError:
        return False
    return bool(plan.get("settings_sha256") == settings_sha256(config))


def _curve(run: RunFolder, metrics: list[dict[str, Any]], expected: float | None) -> str:
    svg = draw_curves({"": metrics}, expected)
    written_if_possible(lambda: write_text(run.figures / "loss.svg", svg))
    return svg


def _attention(run: Path, text: str) -> dict[str, Any] | None:
    """Capture the attention on one sentence, rounded for the page."""
    try:
        language_model = load(run)
    except UserError:
        return None
    tokenizer, model = language_model.tokenizer, language_model.model
    limit = min(LONGEST_SENTENCE, model.config.context_length)
    ids = tokenizer.encode(text)[:limit]
    if not ids:
        return None
    seen = capture(model, ids)
    probabilities = seen.logits[-1, : model.n_used_ids].softmax(dim=-1)
    best = probabilities.topk(min(8, len(probabilities)))
    return {
        "tokens": [tokenizer.decode([index]) for index in ids],
        "weights": [
            [[[round(w, 3) for w in row] for row in head] for head in layer]
            for layer in seen.attention.tolist()
        ],
        "next": [
            (tokenizer.decode([index]), probability)
            for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
    }


def _number(value: int | float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
