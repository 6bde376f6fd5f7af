"""Count what a command leaves out, cuts or keeps unchanged, with the reason and a few examples.

Nothing of this kind is silent: the counts are printed, and recorded in the manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_N_EXAMPLES = 3

Action = Literal["Left out", "Cut", "Kept as they are", "Joined"]


@dataclass
class Count:
    """How many things were treated in the same way for the same reason."""

    action: Action
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """The first names."""


@dataclass
class LeftOut:
    """Counts by reason, in the order of discovery.

    >>> left_out = LeftOut()
    >>> left_out.add("empty files", "a/_SUCCESS")
    >>> left_out.add("empty files", "b/_SUCCESS")
    >>> left_out.sentences()
    ['Left out: empty files: 2 (a/_SUCCESS, b/_SUCCESS).']
    """

    counts: dict[str, Count] = field(default_factory=dict)
    unread: list[Any] = field(default_factory=list, compare=False)
    """Sources that were left out: they are tried again when they have changed."""

    def add(self, reason: str, example: str, *, action: Action = "Left out") -> None:
        """Count one thing.

        Args:
            reason: What it is, in the plural: "empty files".
            example: Its name.
            action: What is done with it.
        """
        entry = self.counts.setdefault(reason, Count(action))
        entry.count += 1
        if len(entry.examples) < _N_EXAMPLES:
            entry.examples.append(example)

    def merge(self, other: "LeftOut") -> None:
        """Add the counts of another one."""
        for reason, entry in other.counts.items():
            mine = self.counts.setdefault(reason, Count(entry.action))
            mine.count += entry.count
            mine.examples = [*mine.examples, *entry.examples][:_N_EXAMPLES]

    def total(self, action: Action = "Left out") -> int:
        """Return the number of things that were treated in this way."""
        return sum(entry.count for entry in self.counts.values() if entry.action == action)

    def sentences(self) -> list[str]:
        """Describe each reason in a sentence."""
        described = []
        for reason, entry in self.counts.items():
            more = ", ..." if entry.count > len(entry.examples) else ""
            names = f"{', '.join(entry.examples)}{more}"
            described.append(f"{entry.action}: {reason}: {entry.count:,} ({names}).")
        return described

    def to_table(self) -> dict[str, Any]:
        """Convert to plain values for a manifest."""
        return {reason: vars(entry) for reason, entry in self.counts.items()}

    @classmethod
    def from_table(cls, table: Mapping[str, Any] | None) -> "LeftOut":
        """Read the values of a manifest; manifests of version 0.1 have none."""
        return cls({reason: Count(**entry) for reason, entry in (table or {}).items()})
