"""`groundup convert`: token files of nanoGPT, llm.c and Megatron, from and to a token store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError, quoted
from groundup.cli.console import next_command, note
from groundup.data.interchange import read_tokens, write_tokens
from groundup.data.store import TokenStore
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.special import END_OF_TEXT


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What to read and what to write."""

    source: Path = Path("data/train")
    """A token store, or another project's file."""
    out: Path = Path("tokens.bin")
    """The file to write, or the folder of the store."""
    reads: Literal["store", "nanogpt", "llmc", "megatron"] = "store"
    """What the source is."""
    writes: Literal["store", "nanogpt", "llmc", "megatron"] = "nanogpt"
    """What to write."""
    tokenizer: Path | None = None
    """The tokenizer folder of another project's file: vocabulary and end of text."""


def run(config: ConvertConfig) -> list[Path]:
    """Convert and name what was written."""
    if (config.reads == "store") == (config.writes == "store"):
        raise UserError(
            f"from {config.reads} to {config.writes}",
            need="a store on one side, another project's file on the other",
            type_this="groundup convert data/train --writes megatron --out corpus.bin",
        )
    if config.reads == "store":
        assert config.writes != "store"
        store = TokenStore.open(config.source)
        files = write_tokens(store, config.out, config.writes)
        n_bytes = sum(file.stat().st_size for file in files)
        note(f"{store.n_tokens:,} tokens, {n_bytes:,} bytes: {', '.join(map(str, files))}")
        back = f"--reads {config.writes} --writes store"
        next_command(f"groundup convert {quoted(files[0])} {back} --help")
        return files
    if config.tokenizer is None:
        raise UserError(
            f"a {config.reads} file does not tell its vocabulary",
            need="the tokenizer folder",
            type_this=f"groundup convert {quoted(config.source)} --reads {config.reads} "
            "--writes store --tokenizer FOLDER --out data/train",
        )
    tokenizer = load_tokenizer(config.tokenizer)
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    store = TokenStore.build(
        config.out,
        read_tokens(config.source, config.reads, end),
        vocab_size=tokenizer.vocab_size,
        tokenizer_fingerprint=tokenizer.fingerprint,
        end_of_text=end,
        sources=[f"{config.source.name} bytes:{config.source.stat().st_size}"],
    )
    note(f"{store.n_tokens:,} tokens in {store.n_documents:,} documents: {config.out}")
    next_command(f"groundup verify {quoted(config.out)}")
    return [config.out]
