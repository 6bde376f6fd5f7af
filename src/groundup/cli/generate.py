"""`groundup generate RUN`: let the model continue a text, and show what is copied."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note, style, table, warn
from groundup.cli.finetune_view import next_stage
from groundup.cli.sample_view import SampleView
from groundup.evaluation.config import GenerateConfig
from groundup.evaluation.generate import (
    RECITED_CHARACTERS,
    GenerateResult,
    generate_samples,
)


def run(config: GenerateConfig) -> GenerateResult:
    """Print the samples, the first one as it is generated, then the check for copied passages."""
    view = SampleView()
    result = generate_samples(config, view.print_sample, view.print_text)
    if not result.prompt:
        note("The prompt is empty: each sample starts a new text. Set one with --prompt.")
    if result.choices:
        table(
            "Probability of each choice, given that it is one of them",
            ["choice", "probability"],
            [[repr(choice.text), f"{choice.probability:.3f}"] for choice in result.choices],
        )
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


def _show_copied(result: GenerateResult) -> None:
    if style.is_brief:
        longest = max((sample.longest_recited or "" for sample in result.samples), key=len)
        frac = max(sample.recited_frac or 0.0 for sample in result.samples)
        note(
            f"Copied from the training text, in passages of {RECITED_CHARACTERS} characters or "
            f"more: at most {100 * frac:.0f} % of a sample. The longest copied passage has "
            f"{len(longest)} characters: {repr(longest)[:50]}"
        )
        return
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
