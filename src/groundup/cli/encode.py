"""`groundup encode`: encode a corpus with a tokenizer into token stores."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, stage_progress, table
from groundup.data.config import EncodeConfig
from groundup.data.encode import EncodeResult, encode


def run(config: EncodeConfig) -> EncodeResult:
    """Encode and print the sizes of the stores."""
    with stage_progress() as on_progress:
        result = encode(config, lambda done, total: on_progress("encode", done, total))
    table(
        f"Token stores, with a vocabulary of {result.vocab_size:,}",
        ["split", "documents", "tokens", "bytes per token"],
        [
            [name, f"{side.n_documents:,}", f"{side.n_tokens:,}", f"{side.bytes_per_token:.2f}"]
            for name, side in (("train", result.train), ("validation", result.validation))
        ],
    )
    next_command(f"groundup windows {quoted(config.data)}")
    return result
