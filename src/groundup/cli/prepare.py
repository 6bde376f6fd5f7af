"""`groundup prepare`: documents, sizes, the split, and duplicates across it."""

from pathlib import Path
from textwrap import shorten

from groundup.base.errors import quoted
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
        next_command(f"groundup train-tokenizer {quoted(report.data)}")
    else:
        next_command(f"groundup windows {quoted(report.data)}")
    return report


def _show_audit(audit: Audit) -> None:
    looked_at = "" if audit.sampled_frac == 1 else f" (a sample: {audit.sampled_frac:.1%} of all)"
    places = {
        "within training": (audit.n_passages_train, audit.within_train),
        "within held-out": (audit.n_passages_validation, audit.within_validation),
        "held-out in training": (audit.n_passages_validation, audit.across),
    }
    table(
        f"Passages that repeat an earlier one{looked_at}",
        ["where", "passages", "word for word", "nearly"],
        [
            [name, f"{n:,}", f"{found.n_exact:,}", f"{found.n_near:,}"]
            for name, (n, found) in places.items()
        ],
    )
    for name, (_, found) in places.items():
        for shown in found.examples[:1]:
            words = shorten(" ".join(shown.text.split()), 80)
            documents = " and ".join(dict.fromkeys((shown.first, shown.second)))
            note(f'{name}, in {documents}, {shown.jaccard:.0%} alike: "{words}"')
    if audit.across.examples:
        warn("What stands on both sides the model can recite: the validation loss flatters it.")
    note(
        f"Languages: {_shares(audit.languages)}. Letters: {_shares(audit.scripts)}. "
        f"No text: {audit.non_text_frac:.2%} of the characters."
    )


def _shares(rows: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in rows) or "none"
