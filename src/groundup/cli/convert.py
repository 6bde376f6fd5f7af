"""`groundup convert`: token files of nanoGPT, llm.c and Megatron, from and to a token store."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, plural
from groundup.data.config import ConvertConfig
from groundup.data.convert import ConvertResult, convert


def run(config: ConvertConfig) -> ConvertResult:
    """Convert, and print what was written."""
    result = convert(config)
    written = ", ".join(map(str, result.files))
    note(f"{result.n_tokens:,} tokens in {plural(result.n_documents, 'document')}: {written}")
    if config.to_format == "store":
        next_command(f"groundup verify {quoted(config.out)}")
        return result
    tokenizer = config.source.parent / "tokenizer"
    if tokenizer.is_dir():
        file = result.files[0]
        note("The file can be read back into a token store:")
        next_command(
            f"groundup convert {quoted(file)} --from-format {config.to_format} --to-format store "
            f"--tokenizer {quoted(tokenizer)} --out {quoted(file.with_name(file.stem + '-store'))}"
        )
    else:
        next_command(f"groundup verify {quoted(config.source)}")
    return result
