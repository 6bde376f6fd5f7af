"""`groundup import SOURCE`: pretrained weights become a run folder."""

from pathlib import Path

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table, warn
from groundup.evaluation.pretrained import ImportResult, import_pretrained
from groundup.text.sample_line import validation_line
from groundup.weights.config import ImportConfig

_PROMPT_WORDS = 6


def run(config: ImportConfig) -> ImportResult:
    """Import the model and describe it."""
    result = import_pretrained(config)
    tokens = f"{result.vocab_size:,} tokens" if result.has_tokenizer else "none"
    table(
        "",
        ["imported", str(result.run)],
        [
            ["source", str(result.source)],
            ["family", result.model_type],
            ["parameters", f"{result.n_parameters:,}"],
            ["context", f"{result.context_length:,} tokens"],
            ["tokenizer", tokens],
            ["chat template", "yes" if result.has_chat_template else "no"],
            ["license", result.license or "not stated"],
        ],
    )
    if result.merge is not None:
        note(result.merge.sentence)
    if result.n_unused_rows:
        note(
            f"{result.n_unused_rows:,} rows of the embedding have no token. They are never "
            "generated."
        )
    if not result.has_tokenizer:
        found = (
            "The source has no tokenizer that can be read (tokenizer.json, vocab.json with "
            "merges.txt, or *.tiktoken)"
        )
        found = found if config.tokenizer else "The tokenizer was left out"
        warn(f"{found}, so the model cannot read or write text.")
        next_command(f"groundup export {quoted(result.run)}")
        return result
    if result.is_assistant or result.has_chat_template:
        next_command(f"groundup chat {quoted(result.run)}")
        return result
    line = validation_line(Path("data")) or "Once upon a time"
    prompt = " ".join(line.split()[:_PROMPT_WORDS])
    next_command(f"groundup generate {quoted(result.run)} --prompt={quoted(prompt)}")
    return result
