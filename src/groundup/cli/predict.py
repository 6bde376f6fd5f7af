"""`groundup predict`: classify a text, the lines of standard input, or the rows of a file."""

import json
import sys

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, plural, progress, table
from groundup.finetune.classify.config import PredictConfig
from groundup.finetune.classify.predict import Predicted, PredictResult, predict


def run(config: PredictConfig) -> PredictResult:
    """Classify texts: the output of a pipe is one line per text, and nothing else."""
    if config.text is None and (config.file is not None or config.out is not None):
        return _file(config)
    if config.text is None and sys.stdin is not None and sys.stdin.isatty():
        print("Type one text per line, and end with Ctrl-D.", file=sys.stderr)
    if config.text is not None and not config.json:
        result = predict(config)
        _show(result)
        return result
    return predict(config, None, _print_json if config.json else _print_line)


def _file(config: PredictConfig) -> PredictResult:
    if str(config.file) == "-" and config.out is None:
        return predict(config, None, _print_json if config.json else _print_line)
    with progress("predict", None) as line:
        result = predict(config, lambda n: line.update(n, plural(n, "row")))
    for sentence in result.left_out.sentences():
        note(sentence)
    table(
        "",
        ["predicted class", "texts", "share"],
        [
            [name, f"{count:,}", f"{100 * count / result.n_texts:.1f} %"]
            for name, count in sorted(result.counts.items(), key=lambda item: -item[1])
        ],
    )
    note(f"{plural(result.n_texts, 'text')}, with labels and probabilities: {result.out}")
    return result


def _show(result: PredictResult) -> None:
    (found,) = result.predicted
    table(
        "",
        ["class", "probability"],
        [
            [name, f"{share:.4f}"]
            for name, share in sorted(found.probabilities.items(), key=lambda item: -item[1])[:10]
        ],
    )
    next_command(f"groundup predict {quoted(result.classifier)} --file texts.csv")


def _print_line(found: Predicted) -> None:
    text = " ".join(found.text.split())
    print(f"{found.label}\t{found.probabilities[found.label]:.4f}\t{text}", flush=True)


def _print_json(found: Predicted) -> None:
    row = {"text": found.text, "label": found.label, "probabilities": found.probabilities}
    print(json.dumps(row, ensure_ascii=False), flush=True)
