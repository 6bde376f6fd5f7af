"""An audit of rows in words: tables, sentences, and warnings."""

from collections.abc import Sequence
from dataclasses import dataclass

from groundup.records.row_audit import NearPair, Overlap, RowAudit

_EXAMPLES = 2
_SHOWN_ROWS = 5
_SHOWN_LABELS = 12


@dataclass(frozen=True)
class AuditTable:
    """A table of an audit."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Example:
    """Two rows that repeat each other, to be shown."""

    about: str
    texts: tuple[str, str]


class AuditReport:
    """Say what an audit found.

    Args:
        audit: The audit.
        texts: The texts that were audited.
        labels: Their labels, if there are any.
        where: The place of each row, such as "a.csv:3". None: rows are numbered from 1.
        noun: What is compared, in the plural.
    """

    def __init__(
        self,
        audit: RowAudit,
        texts: Sequence[str],
        labels: Sequence[str] | None = None,
        *,
        where: Sequence[str] | None = None,
        noun: str = "texts",
    ) -> None:
        self._audit, self._texts, self._labels = audit, texts, labels
        self._where = where or [f"row {n}" for n in range(1, len(texts) + 1)]
        self._noun = noun

    @property
    def rule(self) -> str:
        """Which texts are near duplicates, in a sentence."""
        return self._audit.rule.sentence

    @property
    def summary(self) -> str:
        """The duplicates in one sentence, for a command that trains on the rows."""
        audit = self._audit
        parts = [f"{audit.groups.n_exact_repeats:,} of {audit.n_rows:,} rows repeat an earlier one"]
        if audit.conflicts:
            parts.append(f"{len(audit.conflicts):,} near duplicates have different labels")
        largest = {overlap.name: overlap for overlap in audit.overlaps}
        parts += [
            f"{o.n_near:,} of {o.n_rows:,} {o.name} rows have a near duplicate in "
            f"{' or '.join(o.others)}"
            for o in largest.values()
        ]
        return f"Audit: {'; '.join(parts)}. {self.rule}"

    def tables(self) -> list[AuditTable]:
        """Return the tables: duplicates, labels and lengths."""
        found = [self._duplicates()]
        if self._audit.label_counts:
            found.append(self._label_table())
        if self._audit.lengths:
            found.append(self._length_table())
        return found

    def sentences(self) -> list[str]:
        """Return what was found that is no fault."""
        audit = self._audit
        found: list[str] = []
        if audit.random_overlap is not None:
            drawn = audit.random_overlap
            found.append(
                f"In a random split, {drawn.n_near:,} of {drawn.n_rows:,} test rows "
                f"({drawn.n_near / drawn.n_rows:.0%}) have a near duplicate in the training set. "
                "In a grouped split, none has."
            )
        if audit.too_long is not None and audit.max_tokens is not None:
            found.append(
                f"Longer than {audit.max_tokens:,} tokens: {len(audit.too_long):,} of "
                f"{audit.n_rows:,} rows{self._listed(audit.too_long)}."
            )
        return found

    def warnings(self) -> list[str]:
        """Return what makes a score or a model worse than it looks."""
        audit = self._audit
        largest = {overlap.name: overlap for overlap in audit.overlaps}
        found = [self._leak(overlap) for overlap in largest.values() if overlap.near]
        if audit.conflicts:
            found.append(
                f"Near duplicates with different labels: {len(audit.conflicts):,} pairs. One of "
                "the two labels is likely wrong."
            )
        if audit.empty:
            found.append(f"Rows without text: {len(audit.empty):,}{self._listed(audit.empty)}.")
        if audit.equal_answers:
            found.append(
                f"Pairs whose chosen and rejected answers are equal: "
                f"{len(audit.equal_answers):,}{self._listed(audit.equal_answers)}. They say "
                "nothing about preferences."
            )
        if len(audit.label_counts) == 1:
            label = next(iter(audit.label_counts))
            found.append(f"All labels are {label!r}. A classifier needs at least two classes.")
        found += self._unseen()
        single = [label for label, counts in audit.label_counts.items() if counts["rows"] == 1]
        if single and len(audit.label_counts) > 1:
            names = ", ".join(map(repr, single[:_SHOWN_ROWS]))
            found.append(
                f"Labels that occur once, and cannot be in training and test set: {names}"
                f"{', ...' if len(single) > _SHOWN_ROWS else ''}."
            )
        return found

    def _unseen(self) -> list[str]:
        counts = self._audit.label_counts
        found = []
        for name in ("validation", "test"):
            unseen = [label for label, n in counts.items() if n.get(name) and n.get("train") == 0]
            if unseen:
                names = ", ".join(map(repr, unseen[:_SHOWN_ROWS]))
                found.append(f"Labels of the {name} set that do not occur in training: {names}.")
        return found

    def examples(self) -> list[Example]:
        """Return near duplicates to judge the threshold by: across sets if there are any."""
        audit = self._audit
        shown = [self._example(pair, "Different labels") for pair in audit.conflicts[:_EXAMPLES]]
        across = [pair for overlap in audit.overlaps[-1:] for pair in overlap.near]
        pairs = across or [NearPair(first=i, second=j, jaccard=s) for i, j, s in audit.groups.pairs]
        pairs = sorted(
            (p for p in pairs if self._texts[p.first] != self._texts[p.second]),
            key=lambda pair: pair.jaccard,
        )
        if pairs:
            shown.append(self._example(pairs[len(pairs) // 2], "Typical near duplicates"))
            shown.append(self._example(pairs[0], "The least similar ones"))
        return shown

    def _example(self, pair: NearPair, what: str) -> Example:
        rows = (pair.first, pair.second)
        labels = (
            ""
            if self._labels is None
            else " and ".join(dict.fromkeys(self._labels[row] for row in rows))
        )
        places = " and ".join(self._where[row] for row in rows)
        about = f"{what} ({pair.jaccard:.2f}{labels and ', '}{labels}), {places}"
        return Example(about, (self._texts[pair.first], self._texts[pair.second]))

    def _duplicates(self) -> AuditTable:
        audit = self._audit
        rows = [
            _counts(
                "all, with an earlier one",
                audit.n_rows,
                audit.groups.n_exact_repeats,
                audit.n_near_repeats,
            )
        ]
        for overlap in audit.overlaps:
            name = f"{overlap.name}, with {' or '.join(overlap.others)}"
            rows.append(_counts(name, overlap.n_rows, overlap.n_exact, overlap.n_near))
        return AuditTable(
            f"Duplicate {self._noun}", ["rows", "number", "exact", "near or exact", "share"], rows
        )

    def _label_table(self) -> AuditTable:
        counts = self._audit.label_counts
        sets = [name for name in next(iter(counts.values())) if name not in ("rows", "groups")]
        shown = list(counts.items())[:_SHOWN_LABELS]
        more = f" (the most frequent {_SHOWN_LABELS} of {len(counts)})"
        return AuditTable(
            f"Labels{more if len(counts) > _SHOWN_LABELS else ''}",
            ["label", "rows", "share", "without duplicates", *sets],
            [
                [
                    label,
                    f"{n['rows']:,}",
                    f"{n['rows'] / max(1, self._audit.n_rows):.1%}",
                    f"{n['groups']:,}",
                    *(f"{n[name]:,}" for name in sets),
                ]
                for label, n in shown
            ],
        )

    def _length_table(self) -> AuditTable:
        units = {} if self._noun == "texts" else {"tokens": "tokens, with the answer"}
        return AuditTable(
            f"Lengths of the {self._noun}",
            ["unit", "mean", "median", "90 %", "99 %", "longest"],
            [
                [
                    units.get(row.unit, row.unit),
                    f"{row.mean:.1f}",
                    *(f"{n:,}" for n in row.percentiles.values()),
                ]
                for row in self._audit.lengths
            ],
        )

    def _leak(self, overlap: Overlap) -> str:
        most = max(overlap.near_labels.items(), key=lambda entry: entry[1], default=None)
        labels = "" if most is None else f" ({most[1]:,} of them {most[0]})"
        return (
            f"{overlap.n_near:,} of {overlap.n_rows:,} {overlap.name} rows{labels} have a near "
            f"duplicate in {' or '.join(overlap.others)}. Scores on them measure what was "
            "memorized."
        )

    def _listed(self, rows: Sequence[int]) -> str:
        if not rows:
            return ""
        more = ", ..." if len(rows) > _SHOWN_ROWS else ""
        return f" ({', '.join(self._where[row] for row in rows[:_SHOWN_ROWS])}{more})"


def _counts(name: str, n_rows: int, n_exact: int, n_near: int) -> list[str]:
    share = f"{n_near / max(1, n_rows):.1%}"
    return [name, f"{n_rows:,}", f"{n_exact:,}", f"{n_near:,}", share]
