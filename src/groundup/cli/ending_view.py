"""The last screen of a story."""

from textwrap import wrap

from groundup.chat.open_cast import TEMPERATURE
from groundup.story.ending import Ending, Exchange
from groundup.story.passage import N_SAMPLES

_WIDTH = 78


def ending_lines(ending: Ending) -> list[str]:
    """Write the last screen, line by line."""
    cores = "1 CPU thread" if ending.n_threads == 1 else f"{ending.n_threads} CPU threads"
    where = cores if ending.device == "cpu" else f"a GPU ({ending.device})"
    lines = wrap(
        f"A language model of {ending.n_parameters / 1e6:.2f} million parameters read "
        f"{ending.text} {ending.n_passes:.1f} times in {minutes(ending.train_s)} on {where}."
        + ("" if ending.elapsed_s is None else f" All stages took {minutes(ending.elapsed_s)}."),
        _WIDTH,
    )
    lines += ["", *wrap(comparison(ending), _WIDTH)]
    if ending.classifier is not None:
        lines += wrap(order_task(ending), _WIDTH)
    if ending.lines:
        how = f"It wrote this, one of {N_SAMPLES} samples at temperature {TEMPERATURE:g}:"
        lines += ["", how, *(f"    {line[: _WIDTH - 4]}" for line in ending.lines)]
    if ending.exchange is not None:
        lines += ["", *exchange_lines(ending.exchange)]
    return lines


def comparison(ending: Ending) -> str:
    """Say whether the model beats xz, in a sentence."""
    ours, xz = ending.bits_per_byte, ending.xz_bits_per_byte
    numbers = f"{ours:.3f} bits per byte of new text, {xz:.3f} with xz"
    if ours < xz:
        return f"It beats xz by {100 * ending.gain_frac:.0f} %: {numbers}."
    return f"It does not beat xz: {numbers}. A longer text or a longer --train-time helps."


def order_task(ending: Ending) -> str:
    """Say how well lines are told from shuffled lines."""
    found = ending.classifier
    assert found is not None
    n = found["n"]
    return (
        f"Real line or shuffled words: {100 * found['n_right'] / n:.0f} % of {n} right, "
        f"{100 * found['n_right_baseline'] / n:.0f} % by {found['baseline']}."
    )


def exchange_lines(exchange: Exchange) -> list[str]:
    """Write what was said, and the answer."""
    width = max(len(exchange.you), len(exchange.speaker))
    rows = [(exchange.you, exchange.said), (exchange.speaker, exchange.answer)]
    lines = []
    for name, text in rows:
        for number, line in enumerate(
            part for whole in text.split("\n") for part in wrap(whole, _WIDTH - width - 7)
        ):
            lines.append(
                f"    {name if number == 0 else '':<{width}} {'>' if number == 0 else ' '} {line}"
            )
    return lines


def minutes(seconds: float | int) -> str:
    """Write a time.

    >>> minutes(42.3), minutes(60.2), minutes(140)
    ('42 seconds', '1.0 minutes', '2.3 minutes')
    """
    return f"{seconds:.0f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"
