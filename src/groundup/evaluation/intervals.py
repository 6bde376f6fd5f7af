"""Confidence intervals for accuracies: 17 right of 20 may be luck."""

from dataclasses import dataclass

from groundup.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of successes with its confidence interval."""

    n_right: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Successes over trials."""
        return self.n_right / self.n

    def __str__(self) -> str:
        """Format the share with its counts and its interval.

        >>> print(wilson(17, 20))
        85.0 % (17 of 20; 95 % interval 64.0 to 94.8 %)
        """
        return (
            f"{self.value:.1%} ({self.n_right} of {self.n}; 95 % interval "
            f"{100 * self.low:.1f} to {100 * self.high:.1f} %)"
        ).replace("%", " %", 1)


def wilson(n_right: int, n: int, confidence: float = 0.95) -> Share:
    """Compute Wilson's score interval, which stays inside 0 to 1 and holds for few trials, too.

    Raises:
        UserError: There are no trials, or more successes than trials.

    Source: "Probable Inference, the Law of Succession, and Statistical Inference" (Wilson, 1927).

    >>> share = wilson(0, 10)
    >>> share.low, round(share.high, 3)
    (0.0, 0.278)
    """
    if n < 1 or not 0 <= n_right <= n:
        raise UserError(
            f"{n_right} of {n} is not a share. At least one trial, and no more successes than "
            "trials, are expected."
        )
    from scipy.stats import binomtest  # takes half a second to import

    interval = binomtest(n_right, n).proportion_ci(confidence, method="wilson")
    return Share(n_right=n_right, n=n, low=float(interval.low), high=float(interval.high))
