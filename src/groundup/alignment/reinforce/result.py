"""What reinforcement learning returns and writes: rewards before and after, and side effects."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from groundup.alignment.reinforce.rollouts import Scores
from groundup.base.errors import quoted
from groundup.evaluation.merged import MergeReport
from groundup.evaluation.paired import Difference
from groundup.finetune.training import Trained
from groundup.text.left_out import LeftOut

_MUCH = 1.5
"""A length that changes by this factor is mentioned."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A test prompt with a reply before and after training."""

    prompt: str
    answer: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class ReinforceResult:
    """The folder of the trained model, and its rewards on the test set."""

    folder: Path
    """`groundup.load` opens it."""
    n_train: int
    """Number of training prompts."""
    before: Scores
    after: Scores | None = None
    """None: the test failed."""
    difference: Difference | None = None
    """Mean reward after - before training, paired by prompt."""
    n_steps: int = 0
    n_groups: int = 0
    """Number of groups of replies that were sampled."""
    n_equal_groups: int = 0
    """Number of groups whose replies all had the same reward. They are not in the loss."""
    trained: Trained | None = None
    merge: MergeReport | None = None
    examples: tuple[Example, ...] = ()
    n_left_out: int = 0
    n_repeated: int = 0
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out of the file of prompts."""
    elapsed_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    """What failed after training. The model is saved nevertheless."""

    @property
    def verdict(self) -> str:
        """What the test says, in one or two sentences."""
        if self.after is None or self.difference is None:
            return "The model was not tested after training."
        found = self.difference
        interval = f"{found.mean:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}"
        if not found.is_clear:
            return f"The reward did not change clearly on the test set ({interval})."
        word = "rose" if found.mean > 0 else "fell"
        return f"The reward {word} on the test set ({interval}, {found.n} prompts)."

    @property
    def untrained(self) -> list[tuple[str, float, float]]:
        """What the reward does not ask for, before and after: a sign of reward hacking."""
        assert self.after is not None
        return [
            ("tokens per reply", self.before.mean_tokens, self.after.mean_tokens),
            ("replies that end by themselves", self.before.complete_frac, self.after.complete_frac),
            ("words copied from the prompt", self.before.copied_frac, self.after.copied_frac),
        ]

    @property
    def left_out(self) -> list[str]:
        """Which prompts were not used, one sentence for each reason."""
        counts = {
            f"{self.n_left_out:,} prompts do not fit in the context, and are left out.": (
                self.n_left_out
            ),
            f"{self.n_repeated:,} training prompts have the text of a test prompt, and are left "
            "out.": self.n_repeated,
        }
        found = [sentence for sentence, count in counts.items() if count]
        return [*self.reading.sentences(), *found]

    @property
    def suspicions(self) -> list[str]:
        """Sentences on changes that the reward does not explain."""
        if self.after is None:
            return []
        found = []
        ratio = self.after.mean_tokens / self.before.mean_tokens
        if not 1 / _MUCH < ratio < _MUCH:
            found.append(
                f"The replies became {'longer' if ratio > 1 else 'shorter'}: "
                f"{self.before.mean_tokens:.1f} to {self.after.mean_tokens:.1f} tokens. Read some "
                "of them: the reward may have been raised by their length."
            )
        if self.after.copied_frac > self.before.copied_frac + 0.2:
            found.append(
                "More of the replies are copied from the prompts: "
                f"{self.before.copied_frac:.0%} to {self.after.copied_frac:.0%} of their words. "
                "Read some of them."
            )
        return found

    def summary(self) -> dict[str, Any]:
        """The numbers, for reinforce.json."""
        return {
            "before": asdict(self.before),
            "after": None if self.after is None else asdict(self.after),
            "difference": None if self.difference is None else asdict(self.difference),
            "n_groups": self.n_groups,
            "n_equal_groups": self.n_equal_groups,
            "elapsed_s": self.elapsed_s,
        }


def readme(result: ReinforceResult) -> str:
    """Write the README.md of the model, in Markdown."""
    after = result.after
    rows = [("mean reward on the test set", result.before.mean_reward, after and after.mean_reward)]
    if after is not None:
        rows += result.untrained
    lines = "\n".join(
        f"| {name} | {before:.3f} | {'not tested' if now is None else f'{now:.3f}'} |"
        for name, before, now in rows
    )
    merge = "" if result.merge is None else f"\n{result.merge.sentence}\n"
    return f"""# Model trained on rewards (GRPO)

{result.n_steps} steps. Of {result.n_groups} groups of replies, {result.n_equal_groups} had equal
rewards, so that they are not in the loss.

| | before | after |
|---|---|---|
{lines}

{" ".join([result.verdict, *result.suspicions, *result.left_out])}
{merge}
The scores of each step are in `samples/rollouts.jsonl`. Generate text:

    groundup generate {quoted(result.folder)}
"""
