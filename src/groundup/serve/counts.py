"""What a worker counts: requests, tokens and times."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
NEXT_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Histogram:
    """How often values fell below each bound.

    >>> histogram = Histogram((1.0, 2.0))
    >>> for value in (0.5, 2.0, 7.0): histogram.observe(value)
    >>> histogram.cumulative, histogram.total
    ([1, 2, 3], 9.5)
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.total = 0.0
        """Sum of the values."""
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float, n: int = 1) -> None:
        """Add a value n times."""
        self._counts[bisect_left(self.bounds, value)] += n
        self.total += n * value

    @property
    def cumulative(self) -> list[int]:
        """Number of values up to each bound, and of all values."""
        return [sum(self._counts[: i + 1]) for i in range(len(self._counts))]


@dataclass
class Counts:
    """What a worker has done so far, and what it does now."""

    n_running: int = 0
    """Texts that are being generated."""
    n_waiting: int = 0
    """Texts that wait until there is room for them."""
    cache_bytes: int = 0
    """Memory of the keys and values now."""
    n_requests: int = 0
    """Requests that were taken."""
    n_refused: int = 0
    """Requests that were refused because the server was busy."""
    n_cancelled: int = 0
    """Requests whose client left before the end."""
    n_late: int = 0
    """Requests that ended because their time was over."""
    n_failed: int = 0
    """Texts that ended with an error."""
    n_steps: int = 0
    """Steps of the engine."""
    n_prompt_tokens: int = 0
    """Tokens of the prompts that were taken."""
    n_new_tokens: int = 0
    """Tokens that were generated."""
    busy_s: float = 0.0
    """Time in steps of the engine."""
    first_token_s: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_S))
    """Time from a request to its first token."""
    next_token_s: Histogram = field(default_factory=lambda: Histogram(NEXT_TOKEN_S))
    """Time from a token to the next one of the same text."""
