"""`groundup verify`: compare every byte of a data folder with its checksums."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table
from groundup.data.config import VerifyConfig
from groundup.data.manifest import is_store
from groundup.data.verify import VerifyResult, verify


def run(config: VerifyConfig) -> VerifyResult:
    """Verify a data folder, and list its parts."""
    result = verify(config)
    table(
        f"{config.data}: all checksums match",
        ["part", "bytes", "MB/s"],
        [
            [part.name, f"{part.n_bytes:,}", f"{part.n_bytes / 1e6 / part.elapsed_s:,.1f}"]
            for part in result.parts
        ],
    )
    for line in result.notes:
        note(line)
    names = {part.name for part in result.parts}
    step = "encode" if result.notes else "train-tokenizer" if names == {"corpus"} else "windows"
    if is_store(config.data):  # a store alone, which `windows` does not take
        step = "ledger"
    next_command(f"groundup {step} {quoted(config.data)}")
    return result
