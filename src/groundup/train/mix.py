"""A mixture of data folders, as it is written: folders with their weights."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from groundup.base.errors import UsageError

_EXPECTED = "Data folders with their weights are expected, such as books=3,code=1."
_EXAMPLE = {"mix": "books=3,code=1"}


def read_mix(words: Sequence[str]) -> tuple[tuple[Path, float], ...]:
    """Read the folders and weights of a mixture.

    >>> [(str(folder), weight) for folder, weight in read_mix(["books=3,code=1"])]
    [('books', 3.0), ('code', 1.0)]

    Raises:
        UsageError: A weight is missing or not a number above 0, or a folder is named twice.
    """
    parts = [part.strip() for each in words for part in each.split(",")]
    texts: dict[str, float] = {}
    for number, part in enumerate(parts):
        name, _, written = part.rpartition("=")
        if not name:
            raise UsageError(f"mix has {part!r}, without a weight. {_EXPECTED}", settings=_EXAMPLE)
        try:
            weight = float(written)
        except ValueError:
            weight = math.nan
        others = parts[:number] + parts[number + 1 :]
        if not 0 < weight < math.inf:
            raise UsageError(
                f"mix gives {name} the weight {written!r}. A number above 0 is expected.",
                settings=_instead(words, [*others, f"{name}=1"]),
            )
        folder = os.path.normpath(name)
        if folder in texts:
            raise UsageError(
                f"mix names {name} twice. Each data folder is expected once.",
                settings=_instead(words, others),
            )
        texts[folder] = weight
    return tuple((Path(folder), weight) for folder, weight in texts.items())


def _instead(words: Sequence[str], parts: Sequence[str]) -> dict[str, object] | None:
    """Suggest other parts, unless several words of a command would have to be replaced."""
    return {"mix": ",".join(parts)} if len(words) == 1 else None
