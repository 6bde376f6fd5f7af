"""`groundup report RUN`: write the report of a run, and a picture of it."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note
from groundup.inspection.config import ReportConfig
from groundup.inspection.report import ReportResult, report


def run(config: ReportConfig) -> ReportResult:
    """Write the report; say where it is and whether the model runs in it."""
    result = report(config)
    note(
        f"Report: {result.report} ({result.n_bytes / 1e6:.1f} MB, one file that needs no network). "
        "Open it in a browser."
    )
    note(result.not_embedded or "The model runs inside the page.")
    if result.card is not None:
        note(f"Picture: {result.card}, 1200 x 630 pixels.")
    if result.can_chat or result.can_generate:
        next_command(f"groundup {'chat' if result.can_chat else 'generate'} {quoted(result.run)}")
    return result
