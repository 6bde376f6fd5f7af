"""`groundup export RUN`: write the trained model for another project, and check it."""

from groundup.base.errors import joined, quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import note, table, warn
from groundup.cli.finetune_view import next_stage
from groundup.evaluation.export import ExportResult, export
from groundup.weights.config import ExportConfig


def run(config: ExportConfig) -> ExportResult:
    """Write the model and describe what was written."""
    result = export(config)
    table(
        f"{result.folder}: {result.model_class}, {result.n_parameters:,} parameters",
        ["file", "bytes"],
        [[file.name, f"{file.stat().st_size:,}"] for file in result.files],
    )
    kind = "adapter" if config.to == "peft" else "model"
    tokens = "tokens of text" if config.to == "peft" else "random tokens"
    if result.n_checked_tokens:
        note(
            f"The exported {kind} was read back. On {result.n_checked_tokens} {tokens}, its "
            "logits differ from those of the original by at most "
            f"{result.max_logit_difference:.2g}."
        )
    if result.agreement is not None:
        note(
            f"The weights were rounded to {config.dtype}. On {result.agreement.n_tokens} tokens, "
            f"{result.agreement.top1_frac:.1%} of the most likely tokens are the same, and the "
            f"mean KL divergence is {result.agreement.kl_nats:.2g} nats/token."
        )
    if result.n_checked_template_ids:
        note(
            "The chat template was read back. It gives the same ids as training, on "
            f"{result.n_checked_template_ids} ids."
        )
    for sentence in result.notes:
        warn(sentence)
    _say_how_to_load(config, result)
    run_folder = find_run(config.run)
    next_stage(
        "classify",
        run_folder,
        joined(["groundup", "generate", run_folder, "--prompt", "Every effort moves you"]),
    )
    return result


def _say_how_to_load(config: ExportConfig, result: ExportResult) -> None:
    if config.to == "gguf":
        note(f"Run it with llama.cpp: llama-cli -m {quoted(result.files[0])}")
    elif config.to == "nanogpt":
        note(f"Sample with nanoGPT: python sample.py --out_dir={quoted(result.folder)}")
    elif config.to == "peft":
        note(f"Load it with peft: PeftModel.from_pretrained(base, {str(result.folder)!r})")
    elif result.has_tokenizer:
        note(
            "Load it with transformers, without internet access: "
            f"AutoModelForCausalLM.from_pretrained({str(result.folder)!r}), and AutoTokenizer "
            "likewise."
        )
    else:
        warn("The run has no tokenizer in the Hugging Face format: only the model was exported.")
