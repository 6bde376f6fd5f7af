"""Time spans as text: 90s, 10m, 1h30m."""

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
