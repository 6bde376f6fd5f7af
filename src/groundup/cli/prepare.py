"""`groundup prepare`: documents, sizes, the split, and duplicates across it."""

from pathlib import Path

from groundup.base.errors import quoted
from groundup.cli.audit_view import show_audit
from groundup.cli.console import next_command, note, stage_progress, table
from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import PrepareAndEncodeResult, prepare_and_encode
from groundup.text.catalog import CATALOG

_SPLIT = {"by document": "split by document", "by last part": "split within each document"}


def run(config: PrepareAndEncodeConfig) -> PrepareAndEncodeResult:
    """Prepare and print what was found."""
    with stage_progress() as on_progress:
        result = prepare_and_encode(config, on_progress)
    for name in result.sources:
        if name in CATALOG and not Path(name).exists():
            text = CATALOG[name]
            note(f"{name}: {text.about} ({text.license}), from {text.url}")
    table(
        f"{', '.join(result.sources)}, {_SPLIT[result.split_rule]}",
        ["split", "documents", "characters", "bytes", *(["tokens"] if result.n_tokens else [])],
        [_row(result, "train"), _row(result, "validation")],
    )
    if result.n_skipped_sources:
        note(f"Sources already in the corpus, unchanged: {result.n_skipped_sources}.")
    for sentence in result.left_out.sentences():
        note(sentence)
    longest = ", ".join(f"{name} ({size:,})" for name, size in result.longest[:3])
    note(f"Longest documents, in characters: {longest}")
    if result.audit is not None:
        show_audit(result.audit)
    step = "train-tokenizer" if result.n_tokens is None else "windows"
    next_command(f"groundup {step} {quoted(result.data)}")
    return result


def _row(result: PrepareAndEncodeResult, name: str) -> list[str]:
    side = vars(result)[name]
    sizes = [side.n_documents, side.n_characters, side.n_bytes]
    if result.n_tokens:
        sizes.append(result.n_tokens[name])
    return [name, *(f"{size:,}" for size in sizes)]
