"""What preference tuning returns and writes: the report, the counts, samples and the README."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.evaluation import TUNED, PreferenceReport
from groundup.base.errors import quoted
from groundup.evaluation.intervals import Share
from groundup.evaluation.merged import MergeReport
from groundup.finetune.training import Trained
from groundup.text.left_out import LeftOut


@dataclass(frozen=True)
class Sample:
    """A test prompt with the answers before and after training."""

    prompt: str
    before: str
    after: str
    chosen: str


@dataclass(frozen=True, kw_only=True)
class PreferResult:
    """The folder of a tuned assistant, and its scores on the test pairs."""

    folder: Path
    """`groundup.load` opens it, `groundup chat` talks to it."""
    n_read: int
    """Number of pairs before any was left out."""
    n_train: int
    n_validation: int
    n_test: int
    left_out: list[str]
    """Which pairs were not used, one sentence for each reason."""
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out while the files were read."""
    report: PreferenceReport | None = None
    """Scores of all test pairs. None: the test failed."""
    distinct: PreferenceReport | None = None
    """Scores of the test pairs without a near duplicate among the training prompts."""
    reference_from: Path | None = None
    """Where the reference log-probabilities were stored already. None: they were computed."""
    merge: MergeReport | None = None
    """How the merged model compares with the one with adapters. None: there were no adapters."""
    samples: list[Sample] = field(default_factory=list)
    trained: Trained
    elapsed_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    """What failed after training. The model is saved nevertheless."""

    @property
    def verdict(self) -> list[str]:
        """What the test shows: the comparison with the best baseline, and both log-probabilities.

        The comparison is that on the pairs without a near duplicate.
        """
        found = self.distinct or self.report
        return ["The model was not tested."] if found is None else found.sentences()

    @property
    def training(self) -> str:
        """How far the training went, in a sentence."""
        trained, loss = self.trained, self.trained.validation_loss_nats
        stopped = " when the time was up" if trained.stopped_reason == "budget" else ""
        measured = "" if loss is None else f" (validation loss {loss:.3f})"
        return (
            f"Trained for {trained.n_steps:,} steps{stopped}; step {trained.best_step:,} is the "
            f"best{measured}."
        )

    @property
    def has_near_duplicates(self) -> bool:
        """Whether test prompts have near duplicates among the training prompts."""
        both = (self.report, self.distinct)
        return None not in both and both[0].n != both[1].n  # type: ignore[union-attr]

    def reports(self) -> dict[str, PreferenceReport]:
        """Return the scores of all test pairs and, if they are others, of the distinct ones."""
        found = {"all test pairs": self.report}
        if self.has_near_duplicates:
            found["no near duplicate"] = self.distinct
        return {name: report for name, report in found.items() if report is not None}

    def summary(self) -> dict[str, Any]:
        """The numbers, as evaluation/preferences.json holds them."""
        return {
            "verdict": self.verdict,
            "n_read": self.n_read,
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "n_test": self.n_test,
            "left_out": self.left_out,
            "best_step": self.trained.best_step,
            "validation_loss_nats": self.trained.validation_loss_nats,
            "all": None if self.report is None else self.report.to_table(),
            "no_near_duplicate": None if self.distinct is None else self.distinct.to_table(),
            "merge": None if self.merge is None else asdict(self.merge),
        }


def accuracy_rows(reports: dict[str, PreferenceReport]) -> list[list[str]]:
    """Write the preference accuracy of each model in percent, the best first, as a table."""
    first = next(iter(reports.values()))
    shares = [report.shares for report in reports.values()]
    order = sorted(first.scores, key=lambda name: -first.shares[name].n_right)
    return [[name, *(percent(some[name]) for some in shares)] for name in order]


def percent(share: Share) -> str:
    """Write a share with its interval, without the sign.

    >>> from groundup.evaluation.intervals import wilson
    >>> percent(wilson(17, 20))
    '85.0 (64.0 to 94.8)'
    """
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def change_rows(reports: dict[str, PreferenceReport]) -> list[list[str]]:
    """Write the changes of log-probabilities in nats, as rows of a table."""
    return [
        [what, *(f"{i.mean:+.2f} ({i.low:+.2f} to {i.high:+.2f})" for i in intervals)]
        for what, intervals in (
            ("chosen", [report.chosen_nats for report in reports.values()]),
            ("rejected", [report.rejected_nats for report in reports.values()]),
            ("margin", [report.margin_nats for report in reports.values()]),
        )
    ]


def samples_page(samples: Sequence[Sample]) -> str:
    """Write the answers before and after training, in Markdown."""
    return "\n".join(
        f"**{s.prompt}**\n\n- before: {s.before!r}\n- after: {s.after!r}\n- chosen: {s.chosen!r}\n"
        for s in samples
    )


def readme(result: PreferResult, config: PreferConfig) -> str:
    """Write the README.md of a tuned assistant, in Markdown."""
    reports = result.reports()
    tables = "The model was not tested.\n"
    if reports:
        tables = (
            "Preference accuracy in %, with 95 % intervals:\n\n"
            + _markdown(["model", *reports], accuracy_rows(reports))
            + "\nMean change of the log-probability of an answer in nats, with 95 % intervals:\n\n"
            + _markdown(["answer", *reports], change_rows(reports))
        )
    adapter = ""
    if result.merge is not None:
        adapter = (
            f"`adapter/` holds the adapters in the format of peft. {result.merge.sentence}\n\n"
        )
    left_out = " ".join([*result.reading.sentences(), *result.left_out])
    return f"""# Assistant tuned on preferences

{" ".join(result.verdict)}

Loss: {config.loss} with beta {config.beta:g}. Training set: {result.n_train:,} pairs. Validation
set: {result.n_validation:,} pairs. Test set: {result.n_test:,} pairs. {result.training} {left_out}

{tables}
The {TUNED} prefers the answer whose log-probability rose more in training. A tie counts as wrong.

{adapter}Chat with the assistant:

    groundup chat {quoted(result.folder)}
"""


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
