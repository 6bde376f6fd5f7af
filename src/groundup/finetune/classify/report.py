"""The report page and the README of a classifier."""

import jinja2
from markupsafe import Markup

from groundup.base.errors import quoted
from groundup.base.files import write_text
from groundup.base.run import RunFolder
from groundup.finetune.classify.figures import draw_confusion
from groundup.finetune.classify.result import ClassifyResult, ModelScores


def write_report(result: ClassifyResult) -> None:
    """Write figures/confusion.svg and report.html, one file that needs no network."""
    run = RunFolder(result.folder)
    confusion = draw_confusion(result.names, result.confusion) if result.confusion else ""
    if confusion:
        write_text(run.figures / "confusion.svg", confusion)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundup.finetune.classify"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = "{:,}".format
    environment.filters["percent"] = percent
    environment.filters["share4"] = lambda value: "–" if value is None else f"{value:.4f}"
    template = environment.get_template("classifier.html")
    page = template.render(r=result, confusion=Markup(confusion), use=usage(result))
    write_text(run.report, page)


def percent(share: float) -> str:
    """Write a share in percent.

    >>> percent(0.98266)
    '98.3 %'
    """
    return f"{100 * share:.1f} %"


def usage(result: ClassifyResult) -> str:
    """The calls that use a classifier, from the command line and from Python."""
    place = quoted(result.folder)
    return (
        f'groundup predict {place} --text "A text to classify."\n'
        f"groundup predict {place} --file texts.csv\n\n"
        "import groundup\n"
        f'print(groundup.load_classifier({str(result.folder)!r}).predict(["A text to classify."]))'
    )


def readme(result: ClassifyResult) -> str:
    """Write the README.md of a classifier, in Markdown."""
    rows = "\n".join(_row(model) for model in result.models)
    notes = "".join(f"- {note}\n" for note in [result.audit, *result.notes])
    calibration = result.model.calibration if result.model is not None else None
    commands, _, python = usage(result).partition("\n\n")
    return f"""# Classifier: {result.source}

Method: {result.method}. Training set: {result.n_train} texts. Validation set: \
{result.n_validation} texts. Test set: {result.n_test} texts. Classes: {", ".join(result.names)}.

{notes}
| model | log loss | AUC | accuracy | log loss, no near duplicate | accuracy, no near duplicate |
|---|---|---|---|---|---|
{rows}

{result.verdict}{"" if calibration is None else f" {calibration.sentence}"}

Use it, from the command line or from Python:

```
{commands}
```

```python
{python}
```

The folder is complete and works wherever it is moved: weights, head, tokenizer and class names. It
takes {result.n_bytes / 1e6:,.1f} MB besides the weights that it shares with its run as hard links.
The scores are in evaluation/scores.json, and the page of the run is report.html.
"""


def _row(model: ModelScores) -> str:
    cells = [model.name]
    for scores in (model.all, model.no_near):
        if scores is None:
            cells += ["–", "–"]
            continue
        auc = "–" if scores.auc is None else f"{scores.auc:.4f}"
        cells += [f"{scores.log_loss_nats:.4f}"]
        cells += [auc] if scores is model.all else []
        cells += [percent(scores.accuracy.value)]
    return f"| {' | '.join(cells)} |"
