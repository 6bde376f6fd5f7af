"""`report`: all results of a run with figures, in one file that needs no network.

It reads only the results that the commands left in the run folder and its data folder. A section
whose command has not been run yet names the command. The template escapes all text of the user.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_text
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import newest_chat
from groundup.base.results import written_if_possible
from groundup.base.run import RunFolder
from groundup.chat.open_cast import cast_in
from groundup.data.store import TokenStore
from groundup.evaluation.load import ASSISTANT_MARK
from groundup.finetune.instruct.baselines import TUNED, UNTUNED
from groundup.inspection import facts
from groundup.inspection.capture import capture
from groundup.inspection.card import is_own_card, write_card
from groundup.inspection.config import ReportConfig
from groundup.inspection.page_model import PageModel, page_model, rounding_nats
from groundup.inspection.places import check_place
from groundup.inspection.run_results import RunResults, read_run
from groundup.text.own_files import is_own_page
from groundup.text.sample_line import validation_line
from groundup.tokenizer.show import visible

LONGEST_SENTENCE = 24
"""Tokens of a sentence whose attention is shown, at most."""
_N_ROUNDING = 2048
"""Tokens of the validation set on which the rounding of the weights is measured."""
_MOST_SPEAKERS = 24
_LEFT_OUT = "The model was left out of this page."
_DEFAULT_TEXT = "The quick brown fox jumps over the lazy dog"


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """Where the report of a run is."""

    report: Path
    n_bytes: int
    """Size of the page."""
    not_embedded: str | None
    """Why the model does not run inside the page. None: it does."""
    card: Path | None
    """The picture, if one was asked for."""
    run: Path
    can_generate: bool
    """Whether the run has a model that can be loaded."""
    can_chat: bool
    """Whether `chat` has somebody to talk to."""


@takes_settings(ReportConfig, "run")
def report(config: ReportConfig) -> ReportResult:
    """Write the report of a run, and a picture if one is asked for.

    Raises:
        UserError: There is no run, or a place cannot be written to.
    """
    if config.out is not None:
        check_place(config.out, ".html", "out", is_own_page)
    if config.card is not None:
        check_place(config.card, ".png", "card", is_own_card)
    results = read_run(_reported_run(find_run(config.run)))
    page, not_embedded = render_report(results, text=config.text, embed_model=config.embed_model)
    goal = config.out or results.run.report
    write_text(goal, page)
    if config.card is not None:
        write_card(results, config.card)
    return ReportResult(
        report=goal,
        n_bytes=len(page.encode("utf-8")),
        not_embedded=not_embedded,
        card=config.card,
        run=results.run.path,
        can_generate=results.language_model is not None,
        can_chat=can_chat(results),
    )


def _reported_run(path: Path) -> Path:
    """The run whose report is written: an assistant has its own, a classifier that of its model."""
    run = RunFolder.of(path)
    return run.path if (run.path / ASSISTANT_MARK).is_file() else run.outer.path


def write_report(run: Path | str, *, text: str | None = None) -> Path | None:
    """Write RUN/report.html and return its path; None if it cannot be written.

    Args:
        run: The run folder.
        text: The sentence whose attention is shown. None: a line of the validation set.

    Raises:
        UserError: There is no run folder.
    """
    results = read_run(run)
    page, _ = render_report(results, text=text)
    is_written = written_if_possible(lambda: write_text(results.run.report, page))
    return results.run.report if is_written else None


def render_report(
    results: RunResults, *, text: str | None = None, embed_model: bool = True
) -> tuple[str, str | None]:
    """Write the page; also say why the model does not run inside it, if it does not."""
    text = text or (results.data and validation_line(results.data)) or _DEFAULT_TEXT
    model, not_embedded = _page_model(results) if embed_model else (None, _LEFT_OUT)
    best = facts.best_sample(results)
    is_assistant = model is not None and bool(model.description.get("chat_ids"))
    cast = None if model is None or results.data is None or is_assistant else cast_in(results.data)
    cues = None if cast is None else list(cast.cues[:_MOST_SPEAKERS])
    prompt = (best and best.prompt) or text
    if cues is not None:
        prompt = f"{cues[0]}\nDo you love me?\n\n{cues[1]}\n"
    shown = {
        "curve": facts.curve(results) if results.metrics else None,
        "samples": list(results.samples.items()),
        # A page with the model computes the attention itself.
        "attention": None if model is not None else _attention(results, text),
        "cues": cues,
    }
    page = (
        page_templates()
        .get_template("report.html")
        .render(
            name=str(results.run.path),
            stages=results.stages,
            manifest=results.manifest,
            data_problem=results.data_problem,
            sentence=facts.sentence(results),
            figures=facts.figures(results),
            best=best,
            plan_rows=facts.plan_rows(results),
            saved_classifier=facts.saved_classifier(results),
            verdict=facts.classifier_verdict(results),
            step_rows=facts.step_rows(results.metrics),
            shown=shown,
            text=text,
            prompt=prompt,
            model=None if model is None else model.description,
            weights=None if model is None else Markup(model.weights),
            rounding_nats=_rounding_nats(results) if model is not None else None,
            n_rounding=_N_ROUNDING,
            not_embedded=not_embedded,
            is_loaded=results.language_model is not None,
            can_chat=can_chat(results),
            before=UNTUNED,
            after=TUNED,
        )
    )
    return page, not_embedded


def can_chat(results: RunResults) -> bool:
    """Whether the model of a run, or an assistant that was made from it, can be talked to."""
    model = results.language_model
    own = model is not None and model.can_chat
    return own or newest_chat(results.run.path) is not None


def page_templates() -> jinja2.Environment:
    """Load the templates of the pages; text of the user is escaped by default."""
    loader = jinja2.PackageLoader("groundup.inspection")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def script(name: str) -> Markup:
        # As it is: braces in a script are not those of a template.
        return Markup(loader.get_source(environment, name)[0])

    environment.globals["script"] = script
    environment.filters["visible"] = visible
    environment.filters["quoted"] = quoted
    environment.filters["number"] = _number
    return environment


def _page_model(results: RunResults) -> tuple[PageModel | None, str | None]:
    if results.language_model is None:
        return None, "The run has no model that can be loaded."
    try:
        return page_model(results.language_model), None
    except UserError as error:
        return None, error.message


def _rounding_nats(results: RunResults) -> float | None:
    """What the rounding of the weights costs on the validation set. None: it is not there."""
    if results.language_model is None or results.data is None:
        return None
    try:
        store = TokenStore.open(results.data / "validation")
        ids = store.read(0, min(_N_ROUNDING + 1, store.n_tokens)).astype(np.int64)
        return rounding_nats(results.language_model.model, ids)
    except UserError:
        return None


def _attention(results: RunResults, text: str) -> dict[str, Any] | None:
    """Capture the attention on one sentence, in thousandths for the page."""
    if results.language_model is None:
        return None
    tokenizer, model = results.language_model.tokenizer, results.language_model.model
    try:
        ids = tokenizer.encode(text)[: min(LONGEST_SENTENCE, model.config.context_length)]
        if not ids:
            return None
        seen = capture(model, ids)
    except UserError:  # characters that were not in the training text, or layers without attention
        return None
    return {
        "tokens": [tokenizer.decode([index]) for index in ids],
        "weights": [
            [
                [[round(1000 * w) for w in row[: t + 1]] for t, row in enumerate(head)]
                for head in layer
            ]
            for layer in seen.attention.tolist()
        ],
    }


def _number(value: int | float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
