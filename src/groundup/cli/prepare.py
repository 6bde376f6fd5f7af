"""`groundup prepare`: documents, sizes, the split, and duplicates across it."""

from pathlib import Path

from groundup.cli.console import next_command, note, table, warn
from groundup.data.prepare import PrepareConfig, PrepareReport, prepare
from groundup.text.catalog import CATALOG


def run(config: PrepareConfig) -> PrepareReport:
    """Prepare and show what was found."""
    for name in config.sources:
        if name in CATALOG and not Path(name).exists():
            text = CATALOG[name]
            note(f"{name}: {text.about} ({text.n_bytes:,} bytes, {text.licence}), from {text.url}")
    report = prepare(config)
    sides = [("train", report.train), ("validation", report.validation)]
    table(
        f"{', '.join(report.sources)}, split {report.split_rule}",
        ["side", "documents", "characters", "words", "bytes"],
        [
            [name, *(f"{n:,}" for n in (s.n_documents, s.n_characters, s.n_words, s.n_bytes))]
            for name, s in sides
        ],
    )
    longest = ", ".join(f"{name} ({size:,})" for name, size in report.longest[:3])
    note(f"Longest documents, in characters: {longest}")
    audit = report.audit
    note(
        f"Duplicates: {audit.n_exact_within_train} of {audit.n_passages_train:,} training passages "
        f"repeat another. Across the split, of {audit.n_passages_validation:,} held-out passages "
        f"{audit.n_exact_across} stand word for word in the training text and "
        f"{audit.n_near_across} nearly."
    )
    if audit.examples:
        shown = audit.examples[0]
        words = " ".join(shown.text.split())[:160]
        warn(f'Shared by {shown.first} and {shown.second} ({shown.jaccard:.0%} alike): "{words}"')
        note("What the model meets twice it can recite: the validation loss flatters it that much.")
    if config.tokenizer is None:
        next_command(f"groundup train-tokenizer {report.data}")
    else:
        next_command(f"groundup windows {report.data}")
    return report
