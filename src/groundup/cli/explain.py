"""`groundup explain`: the attention of one sentence on the screen, the report with pictures."""

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from groundup.base.errors import UserError, quoted
from groundup.cli.console import console, next_command, note, table
from groundup.evaluation.load import load
from groundup.explain.capture import capture
from groundup.explain.report import write_report
from groundup.tokenizer.show import visible

_SHADES = " ░▒▓█"


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Which model, which sentence."""

    run: Path = Path("runs/story")
    """A run folder with a trained model."""
    text: str | None = None
    """The sentence to look at; off takes a held-out line of the run's own text."""
    layer: int = -1
    """The layer whose attention the terminal shows, counted from 0; -1 is the last."""
    head: int = 0
    """The head of that layer."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was shown, and where the report is."""

    report: Path
    tokens: list[str]
    most_attended: list[str]


def run(config: ExplainConfig) -> Explanation:
    """Show one head's attention, then write the report."""
    language_model = load(config.run)
    tokenizer, model = language_model.tokenizer, language_model.model
    text = config.text or _held_out_line(config.run)
    ids = tokenizer.encode(text)[: min(24, model.config.context_length)]
    seen = capture(model, ids)
    n_layers, n_heads = seen.attention.shape[:2]
    if not (-n_layers <= config.layer < n_layers and 0 <= config.head < n_heads):
        raise UserError(
            f"there is no layer {config.layer} with a head {config.head}",
            need=f"a layer below {n_layers} and a head below {n_heads}",
            type_this="--layer 0 --head 0",
        )
    weights = seen.attention[config.layer, config.head]
    tokens = [visible(tokenizer.decode([index])) for index in ids]
    note(f"Layer {config.layer % n_layers}, head {config.head}: each row takes from the columns.")
    width = max(map(len, tokens))
    for token, row in zip(tokens, weights.tolist(), strict=True):
        line = Text(f"{token:>{width}} ")
        line.append("".join(2 * _SHADES[min(4, int(w * 5))] for w in row))
        console.print(line)
    most = [tokens[int(row.argmax())] for row in weights]
    chances = seen.logits[-1].softmax(dim=-1).topk(5)
    table(
        "After the last token the model expects",
        ["token", "chance"],
        [
            [visible(tokenizer.decode([index])), f"{chance:.1%}"]
            for index, chance in zip(chances.indices.tolist(), chances.values.tolist(), strict=True)
        ],
    )
    report = write_report(config.run, text=text)
    note(f"The report with pictures: {report}")
    next_command(f"groundup chat {quoted(config.run)}")
    return Explanation(report=report, tokens=tokens, most_attended=most)


def _held_out_line(run: Path) -> str:
    from groundup.text.corpus import corpus_file, read_corpus

    if corpus_file(run / "data", "validation").is_file():
        for document in read_corpus(run / "data", "validation"):
            for line in document.text.splitlines():
                if len(line.split()) >= 8:
                    return line.strip()
    return "The quick brown fox jumps over the lazy dog"
