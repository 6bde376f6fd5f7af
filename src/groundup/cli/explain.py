"""`groundup explain RUN`: the attention on one sentence on the screen, and the report."""

from rich.text import Text

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import newest_chat
from groundup.base.run import RunFolder
from groundup.cli.console import console, harmless, next_command, note, style, table
from groundup.inspection.config import ExplainConfig
from groundup.inspection.explain import ExplainResult, explain

_BRIEF_ROWS = 10
_SHADES = " ░▒▓█"


def run(config: ExplainConfig) -> ExplainResult:
    """Show one attention head and the most likely next tokens; name the report."""
    result = explain(config)
    note(
        f"Layer {result.layer}, head {result.head}: the more a cell is filled, the more the token "
        "of its row attends to the token of its column."
    )
    if len(result.tokens) < result.n_tokens:
        note(f"The first {len(result.tokens)} of {result.n_tokens:,} tokens are shown.")
    width = max(map(len, result.tokens))
    shown = list(zip(result.tokens, result.attention, strict=True))
    for token, row in shown[:_BRIEF_ROWS] if style.is_brief else shown:
        line = Text(f"{harmless(token):>{width}} ")
        line.append("".join(2 * _SHADES[min(4, int(weight * 5))] for weight in row))
        console.print(line)
    table(
        "Most likely next tokens after the sentence",
        ["token", "probability"],
        [[token, f"{probability:.1%}"] for token, probability in result.next_tokens],
    )
    if result.report is not None:
        note(f"Report: {result.report}")
    folder = RunFolder.of(find_run(config.run)).outer.path
    command = "chat" if newest_chat(folder) else "instruct"
    next_command(f"groundup {command} {quoted(folder)}")
    return result
