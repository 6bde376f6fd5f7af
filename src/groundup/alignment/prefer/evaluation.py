"""Preference accuracy on the test pairs, beside baselines, and what happened to both answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from groundup.alignment.prefer.losses import PairLogProbabilities
from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.paired import (
    MIN_ITEMS,
    Difference,
    Interval,
    McNemar,
    bootstrap,
    mcnemar,
    paired_bootstrap,
)

TUNED, UNTUNED = "tuned model", "untuned model"

Scores = Float[np.ndarray, " n"]
"""One score per test pair, above 0 where the chosen answer is preferred."""


@dataclass(frozen=True, kw_only=True)
class PreferenceReport:
    """Scores of the test pairs, or of some of them."""

    scores: Mapping[str, Scores]
    """Of the tuned model (the difference of its log ratios, in nats) and of each baseline."""
    log_ratios: Float[np.ndarray, "n 2"]
    """Change of the log-probability of the chosen and of the rejected answer, in nats."""

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.log_ratios)

    @property
    def shares(self) -> dict[str, Share]:
        """Preference accuracy of each model with its interval; a tie counts as wrong."""
        return {name: wilson(int((s > 0).sum()), self.n) for name, s in self.scores.items()}

    @property
    def best_baseline(self) -> str:
        """The baseline with the most pairs right."""
        return max((n for n in self.scores if n != TUNED), key=lambda n: self.shares[n].n_right)

    @property
    def difference(self) -> Difference:
        """Accuracy of the tuned model minus that of the best baseline, pair by pair."""
        return paired_bootstrap(self._is_right(TUNED), self._is_right(self.best_baseline))

    @property
    def mcnemar(self) -> McNemar:
        """The exact test of the same comparison."""
        return mcnemar(self._is_right(TUNED), self._is_right(self.best_baseline))

    @property
    def chosen_nats(self) -> Interval:
        """Mean change of the log-probability of the chosen answer."""
        return bootstrap(self.log_ratios[:, 0])

    @property
    def rejected_nats(self) -> Interval:
        """Mean change of the log-probability of the rejected answer."""
        return bootstrap(self.log_ratios[:, 1])

    @property
    def margin_nats(self) -> Interval:
        """Mean difference of both changes."""
        return bootstrap(self.log_ratios[:, 0] - self.log_ratios[:, 1])

    @property
    def chosen_fell(self) -> bool:
        """Whether the chosen answers became less likely on average."""
        return self.chosen_nats.mean < 0

    def only(self, rows: Sequence[int]) -> "PreferenceReport":
        """The same scores of some of the pairs."""
        numbers = list(rows)
        scores = {name: s[numbers] for name, s in self.scores.items()}
        return PreferenceReport(scores=scores, log_ratios=self.log_ratios[numbers])

    @classmethod
    def joined(cls, reports: Sequence["PreferenceReport"]) -> "PreferenceReport":
        """Join the scores of several sets of pairs."""
        scores = {
            name: np.concatenate([r.scores[name] for r in reports]) for name in reports[0].scores
        }
        return cls(scores=scores, log_ratios=np.concatenate([r.log_ratios for r in reports]))

    def sentences(self) -> list[str]:
        """What the numbers mean: the comparison, and the change of both answers."""
        return [self._comparison(), self._changes()]

    def to_table(self) -> dict[str, Any]:
        """The numbers, as evaluation/preferences.json holds them."""
        difference = self.difference
        return {
            "n_pairs": self.n,
            "accuracy": {
                name: {
                    "n_right": share.n_right,
                    "n_ties": int((self.scores[name] == 0).sum()),
                    "accuracy": share.value,
                    "interval": [share.low, share.high],
                }
                for name, share in self.shares.items()
            },
            "best_baseline": self.best_baseline,
            "difference": {
                "mean": difference.mean,
                "interval": [difference.low, difference.high],
                "n_only_tuned_right": self.mcnemar.n_only_a,
                "n_only_baseline_right": self.mcnemar.n_only_b,
                "p_value": self.mcnemar.p_value,
            },
            "chosen_log_probability_change_nats": _table(self.chosen_nats),
            "rejected_log_probability_change_nats": _table(self.rejected_nats),
            "margin_nats": _table(self.margin_nats),
            "chosen_fell": self.chosen_fell,
        }

    def _is_right(self, name: str) -> Sequence[bool]:
        return [bool(score > 0) for score in self.scores[name]]

    def _comparison(self) -> str:
        name, gap = self.best_baseline, self.difference
        ours, theirs = self.shares[TUNED], self.shares[name]
        found = (
            f"The tuned model prefers the chosen answer in {ours.n_right} of {self.n} test pairs, "
            f"and the best baseline ({name}) in {theirs.n_right}"
        )
        if self.n < MIN_ITEMS:
            return (
                f"{found}. These are too few pairs to compare: at least {MIN_ITEMS} are expected."
            )
        is_better = "better" if gap.mean > 0 else "worse"
        meaning = f"clearly {is_better}" if gap.is_clear else "no clear difference"
        return (
            f"{found}: {meaning} ({100 * gap.mean:+.1f} points, 95 % interval "
            f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f})."
        )

    def _changes(self) -> str:
        chosen, rejected = self.chosen_nats.mean, self.rejected_nats.mean
        if not self.chosen_fell:
            return (
                f"The chosen answers became likelier (log p {chosen:+.2f} nats), the rejected ones "
                f"changed by {rejected:+.2f} nats."
            )
        found = f"WARNING: The chosen answers became less likely (log p {chosen:+.2f} nats); "
        if rejected < chosen:
            return f"{found}the margin comes from the rejected ones ({rejected:+.2f} nats)."
        return f"{found}the rejected ones did not fall as much ({rejected:+.2f} nats)."


def preference_report(
    pairs: PairLogProbabilities, baselines: Mapping[str, Scores]
) -> PreferenceReport:
    """Compare the log-probabilities of test pairs with the baselines.

    The tuned model prefers the answer whose log-probability rose more, as in the reward accuracy
    of trl.
    """
    ratios = pairs.ratios.numpy().astype(np.float64)
    reference = pairs.reference.numpy().astype(np.float64)
    scores = {
        TUNED: ratios[:, 0] - ratios[:, 1],
        **baselines,
        UNTUNED: reference[:, 0] - reference[:, 1],
    }
    return PreferenceReport(scores=scores, log_ratios=ratios)


def _table(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "interval": [interval.low, interval.high]}
