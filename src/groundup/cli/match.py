"""`groundup match RUN --against SOURCE`: all equalities of two forms of a model, with numbers."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note, table, warn
from groundup.evaluation.match import MatchResult, match
from groundup.weights.config import MatchConfig

_RESULTS = {True: "PASS", False: "FAIL", None: "SKIPPED"}


def run(config: MatchConfig) -> MatchResult:
    """Compare the two and print each check."""
    result = match(config)
    table(
        f"{result.run} against {result.against}",
        ["check", "result", "found"],
        [[check.name, _RESULTS[check.is_equal], check.found] for check in result.checks],
    )
    for check in result.findings:
        warn(f"The {check.name} differ: {check.found}.")
    if not result.findings:
        note("Everything that both sides have is equal.")
    next_command(f"groundup generate {quoted(find_run(config.run))}")
    return result
