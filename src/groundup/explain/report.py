"""`report.html`: the story once more with pictures, in one file that needs no network.

It reads only what the verbs left in the run folder. A section whose verb has not run yet says so,
with the command to type. All text of the user's is escaped by the template.
"""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from groundup.base.errors import UserError, quoted
from groundup.base.files import write_text
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.evaluation.load import load
from groundup.explain.capture import capture
from groundup.pretraining.curves import draw_curves
from groundup.tokenizer.show import visible

_LONGEST_SENTENCE = 24


def write_report(run: Path | str, *, text: str | None = None) -> Path:
    """Write RUN/report.html; give its path.

    Args:
        run: The run folder.
        text: The sentence whose attention is shown; None takes the tokenizer's held-out line.

    Raises:
        UserError: There is no run, or it holds no model.
    """
    folder = RunFolder.open(run)
    stages = _stages(folder.path)
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
            curve=Markup(_curve(folder.path, metrics, expected)) if metrics else None,
            moves=[row for row in metrics if "weight" in row and "grad_norm" in row][:4],
            attention=_attention(folder.path, text),
        )
    )
    goal = folder.path / "report.html"
    write_text(goal, page)
    return goal


def page_templates() -> jinja2.Environment:
    """Give the templates of the pages; the user's text is escaped in them by default."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundup.explain"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["quoted"] = quoted
    environment.filters["number"] = _number
    return environment


def _stages(run: Path) -> dict[str, Any]:
    """Read what each verb found, in the run and in the data it was trained on."""
    manifest = RunFolder(run).read_manifest()
    data = run / "data" if (run / "data").is_dir() else Path(manifest.get("data", run / "data"))
    return read_results(data) | read_results(run)


def _curve(run: Path, metrics: list[dict[str, Any]], expected: float | None) -> str:
    svg = draw_curves({"": metrics}, expected)
    write_text(run / "figures" / "loss.svg", svg)
    return svg


def _attention(run: Path, text: str) -> dict[str, Any] | None:
    """Capture one sentence's attention, rounded for the page."""
    try:
        language_model = load(run)
    except UserError:
        return None
    tokenizer, model = language_model.tokenizer, language_model.model
    limit = min(_LONGEST_SENTENCE, model.config.context_length)
    ids = tokenizer.encode(text)[:limit]
    if not ids:
        return None
    seen = capture(model, ids)
    chances = seen.logits[-1].softmax(dim=-1)
    best = chances.topk(min(8, len(chances)))
    return {
        "tokens": [tokenizer.decode([index]) for index in ids],
        "weights": [
            [[[round(w, 3) for w in row] for row in head] for head in layer]
            for layer in seen.attention.tolist()
        ],
        "next": [
            (tokenizer.decode([index]), chance)
            for index, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
    }


def _number(value: int | float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
