"""`groundup prepare`: documents, sizes, the split, and duplicates across it."""

from pathlib import Path

from groundup.cli.console import next_command, note, stage_progress, table, warn
from groundup.data.prepare import PrepareConfig, PrepareReport, prepare
from groundup.text.audit import Audit
from groundup.text.catalog import CATALOG


def run(config: PrepareConfig) -> PrepareReport:
    """Prepare and show what was found."""
    for name in config.sources:
        if name in CATALOG and not Path(name).exists():
            text = CATALOG[name]
            note(f"{name}: {text.about} ({text.n_bytes:,} bytes, {text.licence}), from {text.url}")
    with stage_progress() as told:
        report = prepare(config, told)
    table(
        f"{', '.join(report.sources)}, split {report.split_rule}",
        ["side", "documents", "characters", "bytes", *(["tokens"] if report.n_tokens else [])],
        [
            [
                name,
                *(f"{n:,}" for n in (side.n_documents, side.n_characters, side.n_bytes)),
                *([f"{report.n_tokens[name]:,}"] if report.n_tokens else []),
            ]
            for name, side in (("train", report.train), ("validation", report.validation))
        ],
    )
    if report.n_skipped_sources:
        note(f"{report.n_skipped_sources} sources were there already, unchanged.")
    longest = ", ".join(f"{name} ({size:,})" for name, size in report.longest[:3])
    note(f"Longest documents, in characters: {longest}")
    if report.audit is not None:
        _show_audit(report.audit)
    if report.n_tokens is None:
        next_command(f"groundup train-tokenizer {report.data}")
    else:
        next_command(f"groundup windows {report.data}")
    return report


def _show_audit(audit: Audit) -> None:
    looked_at = "" if audit.sampled_frac == 1 else f" (a sample: {audit.sampled_frac:.1%} of all)"
    note(
        f"Duplicates{looked_at}: {audit.n_exact_within_train} of {audit.n_passages_train:,} "
        f"training passages repeat another. Across the split, of "
        f"{audit.n_passages_validation:,} held-out passages {audit.n_exact_across} stand word for "
        f"word in the training text and {audit.n_near_across} nearly."
    )
    if audit.examples:
        shown = audit.examples[0]
        words = " ".join(shown.text.split())[:160]
        warn(f'Shared by {shown.first} and {shown.second} ({shown.jaccard:.0%} alike): "{words}"')
        note("What the model meets twice it can recite: the validation loss flatters it that much.")
    note(
        f"Languages: {_shares(audit.languages)}. Letters: {_shares(audit.scripts)}. "
        f"No text: {audit.non_text_frac:.2%} of the characters."
    )


def _shares(rows: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in rows) or "none"
