"""`groundup doctor`: every rule with its verdict, then cause and cure of each finding."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table, warn
from groundup.pretraining.doctor import RULES, Diagnosis, DoctorConfig, doctor


def run(config: DoctorConfig) -> Diagnosis:
    """Look at a run and say what is wrong with it."""
    result = doctor(config)
    n_found = {rule: sum(found.rule == rule for found in result.findings) for rule in RULES}
    rows = []
    for rule in RULES:
        if n_found[rule]:
            rows.append([rule, "ILL", "see below"])
        elif rule in result.not_examined:
            rows.append([rule, "not examined", result.not_examined[rule]])
        else:
            rows.append([rule, "fine", ""])
    table(f"{result.run} after {result.n_steps_done:,} steps", ["rule", "verdict", ""], rows)
    for finding in result.findings:
        warn(f"{finding.rule}: {finding}")
    if not result.findings:
        note("Nothing is wrong with it, as far as these rules see.")
    if result.checkpoint is not None:
        next_command(f"groundup evaluate {quoted(config.run)}")
    return result
