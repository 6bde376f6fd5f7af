"""Layers by pattern (`GPTConfig.layers`) in formats that know sliding windows only."""

from dataclasses import replace

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig


def without_pattern(config: GPTConfig) -> GPTConfig | None:
    """Build the config without `layers` of a model that computes the same. None: there is none.

    >>> without_pattern(GPTConfig(layers="w", window=16)).sliding_window
    16
    >>> without_pattern(GPTConfig(layers="wwwg")) is None
    True
    """
    if config.layers is None or not config.is_mixed:
        return replace(config, layers=None)
    if set(config.kinds) != {"w"}:
        return None
    return replace(config, layers=None, window=None, sliding_window=config.window_width)


def difference_of_pattern(config: GPTConfig) -> str:
    """Say what no format has of a pattern; empty if there is nothing."""
    if without_pattern(config) is not None:
        return ""
    what = "full attention without positions" if "g" in config.kinds else ""
    what = "a gated delta rule" if "d" in config.kinds else what
    return f"layers is {config.layers!r}, and the format has no {what}"


def refuse_pattern(config: GPTConfig) -> None:
    """Check that a format can hold the layers of a model.

    Raises:
        UserError: It cannot.
    """
    if found := difference_of_pattern(config):
        raise UserError(
            f"{found[0].upper()}{found[1:]}. A model without layers, or with layers w only, is "
            "expected."
        )
