"""Train a model on rewards of its own replies: GRPO with LoRA adapters.

In each step the model replies several times to each of some prompts. Replies with a higher reward
than the others of their group become likelier. The mean reward on a test set is compared before and
after.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.job import ReinforceJob, log_of, reward_name
from groundup.alignment.reinforce.prompts import make_items
from groundup.alignment.reinforce.replies import Reward, equals_answer
from groundup.alignment.reinforce.result import Example, ReinforceResult, readme
from groundup.alignment.reinforce.rollouts import Scores, read_log
from groundup.base.calling import takes_settings
from groundup.base.environment import now
from groundup.base.errors import UsageError
from groundup.base.files import write_json
from groundup.base.folder_kinds import find_run
from groundup.evaluation.paired import paired_bootstrap
from groundup.finetune.foundation import open_foundation, target_folder
from groundup.finetune.outcome import AfterTraining
from groundup.finetune.plan import FineTuningPlan, plan_fine_tuning
from groundup.finetune.training import OnStep, fine_tune, open_fine_tuning
from groundup.train.step import Step

FOLDER = "reinforced"


@takes_settings(ReinforceConfig, "run")
def reinforce(
    config: ReinforceConfig,
    on_step: OnStep | None = None,
    reward: Reward = equals_answer,
    on_test: Callable[[str], None] | None = None,
    on_rollout: Callable[[Scores], None] | None = None,
) -> ReinforceResult | FineTuningPlan:
    """Train the model of a run with GRPO, test it and write it to RUN/reinforced.

    With `plan_only` nothing is written, and the result is the cost.

    Args:
        config: The settings.
        on_step: Called after each optimizer step.
        reward: A function of prompt, reply and answer that returns a number. By default it is 1
            for a reply that equals the answer, otherwise 0. A reply that is cut always gets 0.
        on_test: Called before each test with what is tested.
        on_rollout: Called with the scores of the replies of each step, before its update.

    Raises:
        UserError: The mean reward before training is out of the range in which groups differ, the
            reward function fails, the prompts are malformed or too few, or the result cannot be
            written.
        KeyboardInterrupt: After Ctrl-C, when a checkpoint is written.
    """
    began_at = time.monotonic()
    config = dataclasses.replace(config, run=find_run(config.run))
    assert config.run is not None
    language_model = open_foundation(config.run, device=config.device, threads=config.threads)
    wanted = target_folder(config.run, config.out, FOLDER, language_model.model)
    items = make_items(config, language_model)
    job = ReinforceJob(config, language_model, items, reward)
    say = on_test or (lambda what: None)
    first = job.kept_test(wanted)
    if first is None:
        say("Testing the model before training.")
        first = job.test()
    before = first.scores
    _check_start(before, config)
    rollouts = job.rollouts(on_rollout)
    tuning = job.tuning(rollouts, after_s=first.elapsed_s, started_at=began_at)
    if config.plan_only:
        return plan_fine_tuning(tuning)
    run, _ = open_fine_tuning(wanted, config)
    job.keep_test(run, first)

    def after_step(step: Step) -> None:
        rollouts.write(log_of(run), step.step)
        if on_step is not None:
            on_step(step)

    trained = fine_tune(tuning, run, on_step=after_step)
    with run.log_to_file():
        merge = job.save(run.path)
        after = AfterTraining(run.path)
        groups = _groups(log_of(run))
        result = ReinforceResult(
            folder=run.path,
            n_train=len(items.train),
            before=before,
            n_steps=trained.n_steps,
            n_groups=groups[0],
            n_equal_groups=groups[1],
            trained=trained,
            merge=merge,
            n_left_out=items.n_left_out,
            n_repeated=items.n_repeated,
            reading=items.reading,
            warnings=after.warnings,
        )
        with after.step("Testing the model"):
            say("Testing the model after training.")
            last = job.test()
            result = dataclasses.replace(
                result,
                after=last.scores,
                difference=paired_bootstrap(last.scores.rewards, before.rewards),
                examples=tuple(
                    Example(prompt=item.prompt, answer=item.answer, before=a, after=b)
                    for item, a, b in zip(items.test, first.replies, last.replies, strict=False)
                ),
            )
        result = dataclasses.replace(result, elapsed_s=time.monotonic() - began_at)
        with after.step("Writing the results"):
            write_json(run.evaluation / "reinforce.json", result.summary())
        with after.step("Writing the README"):
            run.write_readme(readme(result))
        with after.step("Writing the manifest"):  # last: it says that the run is finished
            about = {
                "job": "reinforce",
                "foundation": str(config.run.absolute()),
                "reward": reward_name(reward),
            }
            about |= language_model.special_ids.to_manifest()
            about["finished_at"] = now()
            run.write_manifest(run.read_manifest() | about)
    return result


def _check_start(before: Scores, config: ReinforceConfig) -> None:
    """Check that the model neither always fails nor nearly always succeeds.

    Raises:
        UserError: The mean reward before training is out of the range of the config.
    """
    start, is_addition = before.mean_reward, config.prompts is None
    if config.least_start <= start <= config.most_start:
        return
    what = f"The mean reward before training is {start:.3f} on {len(before.rewards)} test prompts"
    if start < config.least_start:
        raise UsageError(
            f"{what}. At least {config.least_start:g} is expected: in too few groups one reply is "
            "better than another, so that nothing can be learned. An easier task, or a model that "
            "was fine-tuned on examples of it first, is needed.",
            settings=_easier(config) if is_addition and start else None,
        )
    raise UsageError(
        f"{what}. At most {config.most_start:g} is expected: most groups have equal replies, so "
        "that little can be learned. A harder task is needed.",
        settings={"max_number": min(5 * config.max_number, 100_000)} if is_addition else None,
    )


def _easier(config: ReinforceConfig) -> dict[str, object] | None:
    """Return settings with smaller numbers, and a test set that leaves enough of them."""
    number = max(11, config.max_number // 2)
    if number == config.max_number:
        return None
    n_test = min(config.test_items, number * (number + 1) // 4)
    return {"max_number": number, "test_items": n_test}


def _groups(log: Path) -> tuple[int, int]:
    """Count the groups in the log, and those with equal rewards."""
    lines = read_log(log)
    return sum(line["n_groups"] for line in lines), sum(line["n_equal_groups"] for line in lines)
