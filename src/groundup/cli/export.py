"""`groundup export RUN`: write the trained model as a Hugging Face folder, and check it."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import note, table, warn
from groundup.cli.finetune_view import next_stage
from groundup.evaluation.export import ExportResult, export
from groundup.weights.config import ExportConfig


def run(config: ExportConfig) -> ExportResult:
    """Write the folder and list its content."""
    result = export(config)
    table(
        f"{result.folder}: {result.model_class}, {result.n_parameters:,} parameters",
        ["file", "bytes"],
        [[file.name, f"{file.stat().st_size:,}"] for file in sorted(result.folder.iterdir())],
    )
    note(
        f"The exported model was read back. On {result.n_checked_tokens} random tokens, its logits "
        f"differ from those of the original by at most {result.max_logit_difference:.2g}."
    )
    if result.n_checked_template_ids:
        note(
            "The chat template was read back. It gives the same ids as training, on "
            f"{result.n_checked_template_ids} ids."
        )
    if result.has_tokenizer:
        note(
            "Load it with transformers, without internet access: "
            f"AutoModelForCausalLM.from_pretrained({str(result.folder)!r}), and AutoTokenizer "
            "likewise."
        )
    else:
        warn("The run has no tokenizer in the Hugging Face format: only the model was exported.")
    run_folder = find_run(config.run)
    next_stage(
        "classify",
        run_folder,
        f"groundup generate {quoted(run_folder)} --prompt 'Every effort moves you'",
    )
    return result
