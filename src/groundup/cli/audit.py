"""`groundup audit`: duplicates, leaks between sets, labels and lengths of a file."""

from groundup.base.errors import as_options, joined
from groundup.cli.audit_view import show_audit, show_row_audit
from groundup.cli.console import next_command, note
from groundup.records.audit import AuditResult, audit
from groundup.records.config import AuditConfig, RowKind

_NEXT = {
    "labels": ["classify", "--labels"],
    "conversations": ["instruct", "--records"],
    "pairs": ["prefer", "--records"],
    "documents": ["prepare"],
}


def run(config: AuditConfig) -> AuditResult:
    """Audit a file and print what was found."""
    result = audit(config)
    for sentence in (*result.notes, *result.reading.sentences()):
        note(sentence)
    if result.documents is not None:
        show_audit(result.documents)
    if result.report is not None:
        show_row_audit(result.report)
    if result.file is not None:
        note(f"Written to {result.file}.")
    next_command(
        joined(["groundup", *_NEXT[result.kind], str(config.file), *_kept(config, result.kind)])
    )
    return result


def _kept(config: AuditConfig, kind: RowKind) -> list[str]:
    """Return the options that the next command needs, too, to read the file."""
    default = AuditConfig()
    names = ["format", "encoding", "skip_empty"]
    if kind == "labels":
        names += ["text_column", "label_column"]
    settings = {name: getattr(config, name) for name in names}
    kept = {n: v for n, v in settings.items() if v != getattr(default, n)}
    if kind == "documents" and config.text_column is not None:
        kept["text_field"] = config.text_column
    return as_options(kept)
