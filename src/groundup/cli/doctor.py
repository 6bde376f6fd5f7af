"""`groundup doctor`: every rule with its result, then the cause and the fix of each problem."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note, table, warn
from groundup.pretraining.config import DoctorConfig
from groundup.pretraining.doctor import RULES, Diagnosis, doctor


def run(config: DoctorConfig) -> Diagnosis:
    """Check a run and print its problems."""
    result = doctor(config)
    n_found = {rule: sum(found.rule == rule for found in result.findings) for rule in RULES}
    rows = []
    for rule in RULES:
        if n_found[rule]:
            rows.append([rule, "FAIL", "see below"])
        elif rule in result.skipped:
            rows.append([rule, "SKIPPED", result.skipped[rule]])
        else:
            rows.append([rule, "PASS", ""])
    table(f"{result.run} after {result.n_steps_done:,} steps", ["rule", "result", "details"], rows)
    for finding in result.findings:
        warn(f"{finding.rule}: {finding}")
    if not result.findings:
        note("No rule found a problem.")
    if result.is_fine_tuning:
        note("To check the examples that it was trained on, type: groundup audit FILE")
    if result.checkpoint is not None and not result.is_fine_tuning:
        next_command(f"groundup evaluate {quoted(find_run(config.run))}")
    return result
