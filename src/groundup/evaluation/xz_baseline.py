"""A second yardstick: the file compressor `xz`, which finds repeats and knows no language either.

Compression and prediction are one thing: who predicts the next byte well needs few bits to store
it. So the size of the compressed held-out text, in bits per byte, stands beside the model's loss.
"""

import logging
import lzma
from dataclasses import dataclass

from groundup.base.errors import UserError

_log = logging.getLogger(__name__)

WINDOW_BYTES = 64 << 20
"""How far back xz looks at its strongest preset, and how much training text it is given."""


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Bits per byte of a held-out text under xz."""

    alone: float
    """The held-out text by itself."""
    after_training_text: float
    """What it adds when the training text has just been compressed, so that repeats are free."""

    @property
    def best(self) -> float:
        """The stronger of the two: the yardstick."""
        return min(self.alone, self.after_training_text)


def xz_bits_per_byte(train: bytes, validation: bytes) -> Compression:
    """Compress held-out bytes with xz at its strongest, alone and with the training text in view.

    Args:
        train: Training bytes; only the last 64 MiB fit in the window, which is logged.
        validation: The held-out bytes.

    Raises:
        UserError: There are no held-out bytes.

    >>> text = bytes(range(256)) * 9
    >>> result = xz_bits_per_byte(text, text[:2000])
    >>> result.after_training_text < 0.1 < result.alone
    True
    """
    if not validation:
        raise UserError("no held-out bytes to compress", need="some text")
    room = max(0, WINDOW_BYTES - len(validation))
    if len(train) > room:
        _log.warning("xz sees the last %d of %d training bytes", room, len(train))
    seen = train[len(train) - room :] if len(train) > room else train
    added = _size(seen + validation) - _size(seen)
    bits = 8 / len(validation)
    return Compression(alone=_size(validation) * bits, after_training_text=added * bits)


def _size(text: bytes) -> int:
    # Without the checksum: it is no part of the text.
    return len(lzma.compress(text, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME))
