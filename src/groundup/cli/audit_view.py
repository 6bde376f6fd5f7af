"""Show an audit: of documents (duplicates, languages and scripts), or of rows to fine-tune on."""

from itertools import takewhile

from groundup.cli.console import harmless, note, style, table, warn
from groundup.records.audit_report import AuditReport
from groundup.text.audit import Audit

_SMALL_SHARE = 0.02
"""Smaller shares of a language are more often mistakes of the identification."""
_WIDTH = 74
"""Characters of an example."""


def show_row_audit(report: AuditReport) -> None:
    """Print the audit of rows: duplicates with examples, other tables, and warnings."""
    duplicates, *others = report.tables()
    table(duplicates.title, duplicates.columns, duplicates.rows)
    note(report.rule)
    for example in report.examples():
        note(f"{example.about}:")
        for line in beside(*example.texts):
            note(f"  {line}")
    for found in others:
        table(found.title, found.columns, found.rows)
    for sentence in report.sentences():
        note(sentence)
    for warning in report.warnings():
        warn(warning)


def beside(*texts: str) -> list[str]:
    """Put texts on a line each, cut so that the first difference is seen."""
    lines = [" ".join(harmless(text).split()) for text in texts]
    columns = zip(*lines, strict=False)
    n_equal = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    start = 0 if n_equal < _WIDTH // 2 else n_equal - _WIDTH // 3
    return [_cut(f"…{line[start:]}" if start else line) for line in lines]


def show_audit(audit: Audit) -> None:
    """Print what an audit found."""
    sample = "" if audit.sampled_frac == 1 else f" (in a sample of {audit.sampled_frac:.1%})"
    places = {
        "within training": (audit.n_passages_train, audit.within_train),
        "within validation": (audit.n_passages_validation, audit.within_validation),
        "validation in training": (audit.n_passages_validation, audit.across),
    }
    table(
        f"Duplicate passages{sample}",
        ["where", "passages", "exact duplicates", "near duplicates"],
        [
            [name, f"{n:,}", f"{found.n_exact:,}", f"{found.n_near:,}"]
            for name, (n, found) in places.items()
        ],
    )
    for name, (_, found) in places.items():
        for shown in [] if style.is_brief else found.examples[:1]:
            words = _cut(" ".join(shown.text.split()))
            documents = " and ".join(dict.fromkeys((shown.first, shown.second)))
            note(f'{name}, in {documents}, {shown.jaccard:.0%} similar: "{words}"')
    if audit.across.examples:
        warn(
            "Some validation text also occurs in the training set, where the model can memorize "
            "it. The validation loss will be too low."
        )
    note(
        f"Languages: {_shares(audit.languages)}. Scripts: {_shares(audit.scripts)}. "
        f"Characters that are not text: {audit.non_text_frac:.2%}."
    )


def _shares(rows: list[tuple[str, float]]) -> str:
    named = [f"{name} {share:.1%}" for name, share in rows if share >= _SMALL_SHARE]
    return ", ".join(named) or "none"


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
