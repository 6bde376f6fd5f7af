"""`groundup train-tokenizer`: learn BPE, compare the ladder, encode the corpus."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table
from groundup.cli.token_line import show_tokens
from groundup.data.encode import encode_corpus
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.train import TokenizerReport, TrainTokenizerConfig, train_tokenizer


def run(config: TrainTokenizerConfig) -> TokenizerReport:
    """Learn, show, encode."""
    report = train_tokenizer(config)
    table(
        "The ladder, weighed on the held-out text",
        ["tokenizer", "vocabulary", "bytes per token", "unknown"],
        [
            [r.name, f"{r.vocab_size:,}", f"{r.bytes_per_token:.2f}", f"{r.unknown_frac:.1%}"]
            for r in report.rungs
        ],
    )
    if report.first_merges:
        merges = " ".join(map(repr, report.first_merges))
        note(f"Learnt in {report.elapsed_s:.1f} s. First merges: {merges}")
        longest = ", ".join(word.strip() for word in report.longest_tokens)
        note(f"Longest words that became one token: {longest}")
    note(f"A held-out line of {len(report.line)} characters is {len(report.line_tokens)} tokens:")
    show_tokens([str(token["text"]) for token in report.line_tokens])
    stores = encode_corpus(config.data, load_tokenizer(report.folder))
    sizes = ", ".join(f"{side} {store.n_tokens:,}" for side, store in stores.items())
    note(f"Tokens stored: {sizes}.")
    next_command(f"groundup windows {quoted(config.data)}")
    return report
