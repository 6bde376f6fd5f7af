"""`groundup report RUN`: write the report of a run, and a picture of it."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note
from groundup.evaluation.load import ASSISTANT_MARK
from groundup.inspection.config import ReportConfig
from groundup.inspection.report import ReportResult, report, reported_run


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
    folder = reported_run(find_run(config.run))
    can_chat = [*folder.glob(ASSISTANT_MARK), *folder.glob(f"assistant*/{ASSISTANT_MARK}")]
    next_command(f"groundup {'chat' if can_chat else 'generate'} {quoted(folder)}")
    return result
