"""`groundup generate RUN`: let the model continue a text, and show what is copied."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import console, harmless, next_command, note, table, warn
from groundup.cli.finetune_view import next_stage
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
    if not result.prompt:
        note("The prompt is empty: each sample starts a new text. Set one with --prompt.")
    if result.not_checked is None:
        _show_copied(result)
    else:
        warn(f"The samples were not compared with the training text. {result.not_checked}")
    run_folder = find_run(config.run)
    explain = f"groundup explain {quoted(run_folder)}"
    if result.can_export:
        next_command(f"groundup export {quoted(run_folder)}")
    else:
        next_stage("classify", run_folder, explain)
    return result


def _print(prompt: str, sample: Sample) -> None:
    console.print(f"\n[dim]{sample.setting}[/dim]")
    console.print(harmless(prompt), style="dim", markup=False, end="")
    text = harmless(sample.text)
    console.print(text, markup=False) if text else console.print("(no further text)")


def _show_copied(result: GenerateResult) -> None:
    table(
        f"Copied from the training text, in passages of {RECITED_CHARACTERS} characters or more",
        ["sample", "copied", "longest passage of any length", "characters"],
        [
            [
                sample.setting,
                f"{100 * (sample.recited_frac or 0.0):.0f} %",
                repr(sample.longest_recited or "")[:60],
                str(len(sample.longest_recited or "")),
            ]
            for sample in result.samples
        ],
    )
