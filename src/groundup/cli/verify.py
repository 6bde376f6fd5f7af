"""`groundup verify`: every byte of a data folder against its checksum."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, table
from groundup.data.verify import Verified, VerifyConfig, verify


def run(config: VerifyConfig) -> list[Verified]:
    """Verify and show what is sound."""
    sound = verify(config)
    table(
        f"{config.data} is sound",
        ["part", "bytes", "MB/s"],
        [[s.name, f"{s.n_bytes:,}", f"{s.n_bytes / 1e6 / s.elapsed_s:,.0f}"] for s in sound],
    )
    next_command(f"groundup windows {quoted(config.data)}")
    return sound
