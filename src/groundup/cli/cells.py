"""What stands in the cells of tables: an interval, a mark, a text on one line."""

from groundup.cli.console import harmless
from groundup.evaluation.intervals import Share


def interval(share: Share) -> str:
    """Format a 95 % confidence interval."""
    return f"{share.low:.1%} to {share.high:.1%}"


def mark(is_correct: bool) -> str:
    """Return a check mark or a cross."""
    return "✓" if is_correct else "✗"


def shorten(text: str, n_characters: int) -> str:
    """Put a text on one line and cut it to a number of characters.

    >>> shorten("to be or not", 9)
    'to be or…'
    """
    text = harmless(" ".join(text.split()))
    if text and text.count("\N{REPLACEMENT CHARACTER}") > len(text) / 2:
        return "(bytes that are not text)"
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"
