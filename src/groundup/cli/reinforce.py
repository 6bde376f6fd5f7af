"""`groundup reinforce`: train a model on rewards of its own replies; show them before and after."""

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.reinforce import reinforce
from groundup.alignment.reinforce.result import ReinforceResult
from groundup.alignment.reinforce.rollouts import Scores
from groundup.base.duration import span
from groundup.base.errors import quoted
from groundup.cli.cells import shorten
from groundup.cli.console import next_command, note, progress, table, warn
from groundup.cli.finetune_plan_view import show_plan
from groundup.cli.finetune_view import shown
from groundup.finetune.plan import FineTuningPlan
from groundup.train.step import Step


def run(config: ReinforceConfig) -> ReinforceResult | FineTuningPlan:
    """Train a model and show the result."""
    if config.plan_only:
        plan = reinforce(config)
        assert isinstance(plan, FineTuningPlan)
        show_plan(plan, "replies")
        return plan
    result = _with_progress(config)
    with shown(result.folder):
        note(f"Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
        _show_test(result)
        for sentence in (*result.left_out, *result.suspicions, *result.warnings):
            warn(sentence)
        next_command(f"groundup generate {quoted(result.folder)}")
    return result


def _with_progress(config: ReinforceConfig) -> ReinforceResult:
    with progress("reinforce", config.steps) as line:
        reward = ""

        def on_rollout(scores: Scores) -> None:
            nonlocal reward
            reward = f"{scores.mean_reward:.3f}"

        def on_step(step: Step) -> None:
            line.total = step.n_steps
            line.update(step.step, reward=reward, eta=span(step.eta_s))

        result = reinforce(config, on_step, on_test=line.say, on_rollout=on_rollout)
    assert isinstance(result, ReinforceResult)
    return result


def _show_test(result: ReinforceResult) -> None:
    note(
        f"Groups of replies: {result.n_groups:,}. In {result.n_equal_groups:,} of them all replies "
        "had the same reward, so that they are not in the loss."
    )
    if result.after is not None:
        before, after = result.before.mean_reward, result.after.mean_reward
        rows = [("mean reward", before, after), *result.untrained]
        table(
            f"Test set ({len(result.before.rewards)} prompts)",
            ["", "before", "after"],
            [[name, f"{a:.3f}", f"{b:.3f}"] for name, a, b in rows],
        )
        table(
            "Examples from the test set",
            ["prompt", "before", "after", "answer"],
            [
                [
                    shorten(example.prompt.rpartition("\n")[2], 40),
                    shorten(example.before, 30),
                    shorten(example.after, 30),
                    shorten(example.answer, 30),
                ]
                for example in result.examples
            ],
        )
    note(result.verdict)
    if result.merge is not None:
        note(result.merge.sentence)
