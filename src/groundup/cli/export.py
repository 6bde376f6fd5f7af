"""`groundup export RUN`: the trained model as a Hugging Face folder, read back and compared."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table, warn
from groundup.weights.export import ExportConfig, ExportReport
from groundup.weights.export import export as export_run


def run(config: ExportConfig) -> ExportReport:
    """Write the folder and say what is in it."""
    report = export_run(config)
    sizes = {file.name: file.stat().st_size for file in sorted(report.folder.iterdir())}
    table(
        f"{report.folder}: {report.model_class}, {report.n_parameters:,} parameters",
        ["file", "bytes"],
        [[name, f"{size:,}"] for name, size in sizes.items()],
    )
    note(
        f"Read back: the largest difference of any logit over {report.n_checked_tokens} random "
        f"tokens is {report.max_logit_difference:.2g}."
    )
    if report.has_tokenizer:
        note(
            "transformers opens it without the internet: "
            f"AutoModelForCausalLM.from_pretrained({str(report.folder)!r}), AutoTokenizer likewise."
        )
    else:
        warn("No tokenizer in Hugging Face's schema stands beside this run: the model goes alone.")
    next_command(f"groundup classify {quoted(config.run)}")
    return report
