"""How samples are printed: the first one as it is generated, and tokens with probabilities."""

import math

from groundup.cli.console import console, harmless, passage, style, table
from groundup.evaluation.samples import Sample


class SampleView:
    """Prints samples; of the first one each piece at once."""

    def __init__(self) -> None:
        self._streamed: str | None = None

    def print_text(self, prompt: str, setting: str, piece: str) -> None:
        """Print the next piece of the first sample."""
        if style.is_brief:
            return
        if self._streamed is None:
            self._streamed = setting
            _print_prompt(prompt, setting)
        console.print(harmless(piece), markup=False, end="", soft_wrap=True)

    def print_sample(self, prompt: str, sample: Sample) -> None:
        """Print a sample, or the end of the one that was printed in pieces."""
        if style.is_brief:
            console.print(f"\n[dim]{sample.setting}[/dim]")
            passage(prompt + sample.text)
            return
        if self._streamed is None:
            _print_prompt(prompt, sample.setting)
            console.print(harmless(sample.text), markup=False, end="", soft_wrap=True)
        self._streamed = None
        console.print("" if sample.text else "(no further text)")
        if sample.tokens:
            _show_tokens(sample)


def _print_prompt(prompt: str, setting: str) -> None:
    console.print(f"\n[dim]{setting}[/dim]")
    console.print(harmless(prompt), style="dim", markup=False, end="", soft_wrap=True)


def _show_tokens(sample: Sample) -> None:
    table(
        "Probability of each token, before temperature and cuts",
        ["token", "log-probability", "probability", "most likely tokens"],
        [
            [
                repr(token.text),
                f"{token.logprob:.3f}",
                f"{math.exp(token.logprob):.3f}",
                "  ".join(f"{text!r} {math.exp(logprob):.3f}" for text, logprob in token.top),
            ]
            for token in sample.tokens
        ],
    )
