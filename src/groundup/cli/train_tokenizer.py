"""`groundup train-tokenizer`: train a tokenizer, compare it with others, encode the corpus."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, stage_progress, table
from groundup.cli.token_line import print_tokens
from groundup.data.config import TrainAndEncodeConfig
from groundup.data.pipeline import TrainAndEncodeResult, train_and_encode


def run(config: TrainAndEncodeConfig) -> TrainAndEncodeResult:
    """Train, encode, and print the comparison."""
    with stage_progress() as on_progress:
        result = train_and_encode(config, on_progress)
    table(
        "Tokenizer types, measured on up to a million characters of the validation set",
        ["tokenizer", "vocabulary", "bytes per token", "unknown"],
        [
            [r.name, f"{r.vocab_size:,}", f"{r.bytes_per_token:.2f}", f"{r.unknown_frac:.1%}"]
            for r in result.rungs
        ],
    )
    if result.first_merges:
        merges = " ".join(map(repr, result.first_merges))
        note(f"Trained in {result.elapsed_s:.1f} s. First merges: {merges}")
        longest = ", ".join(word.strip() for word in result.longest_tokens)
        note(f"Longest words that became one token: {longest}")
    n_tokens = len(result.line_tokens)
    note(f"A validation line of {len(result.line)} characters becomes {n_tokens} tokens:")
    print_tokens([str(token["text"]) for token in result.line_tokens])
    note(f"Tokens stored: {', '.join(f'{side} {n:,}' for side, n in result.n_tokens.items())}.")
    next_command(f"groundup windows {quoted(config.data)}")
    return result
