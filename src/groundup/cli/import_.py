"""`groundup import FOLDER`: pretrained weights from a Hugging Face folder become a run folder."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, warn
from groundup.evaluation.pretrained import ImportResult, import_pretrained
from groundup.weights.config import ImportConfig


def run(config: ImportConfig) -> ImportResult:
    """Import the model and describe it."""
    result = import_pretrained(config)
    note(
        f"Imported a model of type {result.model_type} with {result.n_parameters:,} parameters and "
        f"a context of {result.context_length} tokens into {result.run}."
    )
    if result.n_unused_rows:
        note(
            f"{result.n_unused_rows:,} rows of the embedding have no token. They are never "
            "generated."
        )
    if not result.has_tokenizer:
        warn(
            "The folder has no tokenizer that can be read (tokenizer.json, vocab.json with "
            "merges.txt, or *.tiktoken), so the model cannot read or write text."
        )
        next_command(f"groundup export {quoted(result.run)}")
        return result
    if result.is_assistant:
        next_command(f"groundup chat {quoted(result.run)}")
        return result
    next_command(f"groundup generate {quoted(result.run)} --prompt 'Every effort moves you'")
    return result
