"""`groundup generate RUN`: let the model continue a text, and show what is copied."""

from groundup.base.errors import quoted
from groundup.cli.console import console, harmless, next_command, note, table, warn
from groundup.evaluation.config import GenerateConfig
from groundup.evaluation.generate import (
    RECITED_CHARACTERS,
    GenerateResult,
    Sample,
    generate_samples,
)


def run(config: GenerateConfig) -> GenerateResult:
    """Print the samples as they are generated, then the check for copied passages."""
    result = generate_samples(config, _print)
    if result.not_checked is None:
        _show_copied(result)
    else:
        warn(f"Copied passages were not searched for. {result.not_checked}")
    command = "export" if result.can_export else "classify"
    next_command(f"groundup {command} {quoted(config.run)}")
    return result


def _print(prompt: str, sample: Sample) -> None:
    console.print(f"\n[dim]{sample.setting}[/dim]")
    console.print(harmless(prompt), style="dim", markup=False, end="")
    console.print(harmless(sample.text), markup=False)


def _show_copied(result: GenerateResult) -> None:
    if not result.prompt:
        note("There was no prompt: each sample is a new text.")
    table(
        "Passages copied from the training text",
        ["sample", f"share in {RECITED_CHARACTERS}+ characters", "longest", "longest passage"],
        [
            [
                sample.setting,
                f"{100 * (sample.recited_frac or 0.0):.0f} %",
                str(len(sample.longest_recited or "")),
                repr(sample.longest_recited or "")[:60],
            ]
            for sample in result.samples
        ],
    )
