"""A second baseline: the file compressor `xz`, which finds repeated strings.

Compression and prediction are equivalent: a good prediction of the next byte needs few bits to
store it. So the size of the compressed validation set, in bits per byte, compares with the loss.
"""

import logging
import lzma
from dataclasses import dataclass

from groundup.base.errors import UserError

_log = logging.getLogger(__name__)

WINDOW_BYTES = 64 << 20
"""The dictionary size of the strongest preset, and so the most training text that is used."""


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Bits per byte of the validation set under xz."""

    alone: float
    """The validation set by itself."""
    after_training_text: float
    """What it adds after the training text, whose strings it can refer to."""

    @property
    def best(self) -> float:
        """The stronger of the two: the baseline."""
        return min(self.alone, self.after_training_text)


def xz_bits_per_byte(train: bytes, validation: bytes) -> Compression:
    """Compress the validation set with the strongest preset, alone and after the training text.

    Args:
        train: Training bytes; only the last 64 MiB fit in the dictionary, which is logged.
        validation: The validation bytes.

    Raises:
        UserError: There are no validation bytes.

    >>> text = bytes(range(256)) * 9
    >>> result = xz_bits_per_byte(text, text[:2000])
    >>> result.after_training_text < 0.1 < result.alone
    True
    """
    if not validation:
        raise UserError("There are no validation bytes. Some text is expected.")
    n_used = max(0, WINDOW_BYTES - len(validation))
    if len(train) > n_used:
        _log.warning("xz uses the last %d training bytes only", n_used)
    seen = train[len(train) - n_used :] if len(train) > n_used else train
    added = _size(seen + validation) - _size(seen)
    bits = 8 / len(validation)
    return Compression(alone=_size(validation) * bits, after_training_text=added * bits)


def _size(text: bytes) -> int:
    # Without the checksum, which is not part of the text.
    return len(lzma.compress(text, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME))
