"""Time spans as text: read as 90s, 10m or 1h30m, and written as 41 s or 2.1 min."""

import re

from groundup.base.errors import UserError

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration_s(text: str, setting: str) -> float:
    """Read a time span, in seconds.

    >>> parse_duration_s("90s", "budget"), parse_duration_s("1h30m", "budget")
    (90.0, 5400.0)

    Args:
        text: The time span.
        setting: The setting that it is the value of.

    Raises:
        UserError: It is not a time span, or it is zero.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not seconds or "".join(number + unit for number, unit in parts) != text:
        raise UserError(
            f"{setting} is {text!r}. A time span such as 90s, 10m or 2h is expected.",
            settings={setting: "10m"},
        )
    return seconds


def span(seconds: float | int, *, in_words: bool = False) -> str:
    """Write a time in seconds, minutes or hours.

    >>> span(41.2), span(125), span(14_000), span(125, in_words=True)
    ('41 s', '2.1 min', '3.9 h', '2.1 minutes')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} {'minutes' if in_words else 'min'}"
    return f"{seconds / 3600:.1f} {'hours' if in_words else 'h'}"
