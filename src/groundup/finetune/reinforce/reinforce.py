"""Train a model on rewards of its own replies: GRPO with LoRA adapters.

In each step the model replies several times to each of some prompts. Replies with a higher reward
than the others of their group become likelier. The mean reward on a test set is compared before and
after.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from groundup.base.calling import takes_settings
from groundup.base.config import to_mapping
from groundup.base.device import choose_dtype
from groundup.base.errors import UsageError
from groundup.base.files import read_json, write_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel
from groundup.evaluation.merged import MergeReport, merge_and_save
from groundup.evaluation.paired import paired_bootstrap
from groundup.finetune.batches import token_log_probabilities
from groundup.finetune.foundation import open_foundation, target_folder
from groundup.finetune.job import FineTuning, base_fingerprint
from groundup.finetune.outcome import AfterTraining
from groundup.finetune.plan import FineTuningPlan, plan_fine_tuning
from groundup.finetune.reinforce.config import ReinforceConfig
from groundup.finetune.reinforce.loss import policy_loss
from groundup.finetune.reinforce.prompts import Items, make_items
from groundup.finetune.reinforce.replies import Reply, Reward, equals_answer
from groundup.finetune.reinforce.result import Example, ReinforceResult, readme
from groundup.finetune.reinforce.rollouts import Rollouts, Scores, score
from groundup.finetune.training import OnStep, fine_tune, open_fine_tuning
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, without_lora
from groundup.train.optimizer import Optimizer, OptimizerConfig

FOLDER = "reinforced"
_N_COMPARED = 8
"""Number of test texts on which the merged model is compared with the adapters."""
_TEST_SEED = 2**31
"""Added to the seed for the replies to the test prompts, before and after training alike."""
_N_EXAMPLES = 5


@takes_settings(ReinforceConfig, "run")
def reinforce(
    config: ReinforceConfig,
    on_step: OnStep | None = None,
    reward: Reward = equals_answer,
    on_test: Callable[[str], None] | None = None,
) -> ReinforceResult | FineTuningPlan:
    """Train the model of a run with GRPO, test it and write it to RUN/reinforced.

    With `plan_only` nothing is written, and the result is the cost.

    Args:
        config: The settings.
        on_step: Called after each optimizer step.
        reward: A function of prompt, reply and answer that returns a number. By default it is 1
            for a reply that equals the answer, otherwise 0. A reply that is cut always gets 0.
        on_test: Called before each test with what is tested.

    Raises:
        UserError: The mean reward before training is out of the range in which groups differ, the
            reward function fails, the prompts are malformed or too few, or the result cannot be
            written.
        KeyboardInterrupt: After Ctrl-C, when a checkpoint is written.
    """
    began_at = time.perf_counter()
    config = dataclasses.replace(config, run=find_run(config.run))
    assert config.run is not None
    language_model = open_foundation(config.run, device=config.device, threads=config.threads)
    wanted = target_folder(config.run, config.out, FOLDER, language_model.model)
    items = make_items(config, language_model)
    job = _Job(config, language_model, items, reward)
    if config.plan_only:
        return job.plan()
    say = on_test or (lambda what: None)
    found = _cached_before(wanted, job.identity)
    if found is None:
        say("Testing the model before training.")
        found = job.test()
    before, replies_before = found
    _check_start(before, config)
    run, _ = open_fine_tuning(wanted, config)
    _write_before(run, job.identity, before, replies_before)
    trained = fine_tune(job.tuning(run), run, on_step=on_step)
    with run.log_to_file():
        merge = job.save(run.path)
        after = AfterTraining(run.path)
        groups = _groups(job.log_of(run))
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
            warnings=after.warnings,
        )
        with after.step("Testing the model"):
            say("Testing the model after training.")
            scores, replies = job.test()
            result = dataclasses.replace(
                result,
                after=scores,
                difference=paired_bootstrap(scores.rewards, before.rewards),
                examples=tuple(
                    Example(prompt=item.prompt, answer=item.answer, before=a, after=b)
                    for item, a, b in zip(items.test, replies_before, replies, strict=False)
                ),
            )
        result = dataclasses.replace(result, elapsed_s=time.perf_counter() - began_at)
        with after.step("Writing the results"):
            write_json(run.evaluation / "reinforce.json", result.summary())
        with after.step("Writing the README"):
            run.write_readme(readme(result))
        with after.step("Writing the manifest"):  # last: it says that the run is finished
            about = {"job": "reinforce", "foundation": str(config.run), "reward": _name(reward)}
            about |= language_model.special_ids.to_manifest()
            about["finished_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            run.write_manifest(run.read_manifest() | about)
    return result


@dataclass
class _Job:
    """A model with adapters, its prompts and its reward."""

    config: ReinforceConfig
    language_model: LanguageModel
    items: Items
    reward: Reward

    def __post_init__(self) -> None:
        model, config = self.model, self.config
        self.dtype = choose_dtype(config.dtype, model.device)
        self.base_sha256 = base_fingerprint(self.language_model)
        about = {
            "base": self.base_sha256,
            "items": [
                [list(item.ids), item.answer] for item in (*self.items.train, *self.items.test)
            ],
            "reward": _name(self.reward),
            "config": {
                name: value
                for name, value in to_mapping(config).items()
                if name not in ("run", "out", "plan_only", "device", "threads", "budget")
            },
        }
        self.identity = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()
        add_lora(model, config.lora, seed=config.seed)

    @property
    def model(self) -> GPT:
        return self.language_model.model

    def log_of(self, run: RunFolder) -> Path:
        return run.samples / "rollouts.jsonl"

    def test(self) -> tuple[Scores, list[str]]:
        """Score the test set; also return the first reply to each of its first prompts."""
        scores, replies, _ = score(
            self.language_model,
            self.items.test,
            self.config.test_samples,
            self.reward,
            self.config,
            self.dtype,
            seed=self.config.seed + _TEST_SEED,
        )
        return scores, [_shown(group[0]) for group in replies[:_N_EXAMPLES]]

    def tuning(self, run: RunFolder | None) -> FineTuning:
        """Describe the training."""
        config = self.config
        rollouts = Rollouts(
            language_model=self.language_model,
            items=self.items.train,
            reward=self.reward,
            config=config,
            dtype=self.dtype,
            log=None if run is None else self.log_of(run),
        )
        return FineTuning(
            model=self.model,
            loss=partial(_loss, self.model, config),
            batches=rollouts,
            optimizer=Optimizer(
                self.model,
                OptimizerConfig(
                    name="adamw",
                    learning_rate=config.learning_rate,
                    weight_decay=config.weight_decay,
                    adam_beta2=0.99,
                    adam_eps=1e-8,
                ),
            ),
            n_steps=config.n_steps(len(self.items.train)),
            config=config,
            identity=self.identity,
            count=lambda batch: len(batch[0]),
            before_step=rollouts.before_step,
        )

    def plan(self) -> FineTuningPlan:
        """Measure the cost, with that of the replies of one step and of both tests."""
        planned = plan_fine_tuning(self.tuning(None))
        began_at = time.perf_counter()
        n = min(self.config.batch_size, len(self.items.train))
        score(
            self.language_model, self.items.train[:n], self.config.group_size,
            lambda prompt, reply, answer: 0.0, self.config, self.dtype, seed=0,
        )  # fmt: skip
        sampling_s = time.perf_counter() - began_at
        n_replies = self.config.batch_size * self.config.group_size
        tests_s = 2 * sampling_s * len(self.items.test) * self.config.test_samples / n_replies
        low, likely, high = planned.total_s
        more_s = planned.n_steps * sampling_s + tests_s
        return dataclasses.replace(
            planned,
            step_s=planned.step_s + sampling_s,
            after_s=tests_s / 2,
            total_s=(low + 0.7 * more_s, likely + more_s, high + 1.3 * more_s),
        )

    def save(self, folder: Path) -> MergeReport:
        """Write the merged model, the adapters and the tokenizer."""
        tokenizer = self.language_model.tokenizer
        report = merge_and_save(
            self.model,
            folder,
            base_name=str(self.config.run),
            base_sha256=self.base_sha256,
            check_ids=[
                [*item.ids, *tokenizer.encode(f" {item.answer}")]
                for item in self.items.test[:_N_COMPARED]
            ],
        )
        tokenizer.save(folder / "tokenizer")
        template = self.language_model.chat_template
        if template is not None:
            template.save(folder / "tokenizer")
        if self.language_model.is_assistant:
            write_json(folder / ASSISTANT_MARK, {"job": "reinforce"})
        return report


def _loss(
    model: GPT, config: ReinforceConfig, ids: Tensor, targets: Tensor, weights: Tensor
) -> Tensor:
    reference = None
    if config.kl_weight:
        with torch.no_grad(), without_lora(model):
            reference = token_log_probabilities(model, ids, targets)
    return policy_loss(
        token_log_probabilities(model, ids, targets),
        targets,
        weights,
        max_new_tokens=config.max_new_tokens,
        reference=reference,
        kl_weight=config.kl_weight,
    )


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
            settings={"max_number": 9} if is_addition and config.max_number > 9 else None,
        )
    raise UsageError(
        f"{what}. At most {config.most_start:g} is expected: most groups have equal replies, so "
        "that little can be learned. A harder task is needed.",
        settings={"max_number": min(5 * config.max_number, 100_000)} if is_addition else None,
    )


def _shown(reply: Reply) -> str:
    return reply.text.strip() + ("" if reply.is_complete else " ...")


def _name(reward: Reward) -> str:
    return f"{getattr(reward, '__module__', '')}.{getattr(reward, '__qualname__', repr(reward))}"


def _groups(log: Path) -> tuple[int, int]:
    """Count the groups in the log, and those with equal rewards."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return sum(line["n_groups"] for line in lines), sum(line["n_equal_groups"] for line in lines)


def _write_before(run: RunFolder, identity: str, scores: Scores, replies: list[str]) -> None:
    about = {"identity": identity, "scores": dataclasses.asdict(scores), "replies": replies}
    write_json(run.evaluation / "before.json", about)


def _cached_before(wanted: Path, identity: str) -> tuple[Scores, list[str]] | None:
    """Return the scores before training if a run that was interrupted has them."""
    for folder in sorted(wanted.parent.glob(f"{wanted.name}*")):
        file = RunFolder(folder).evaluation / "before.json"
        found = read_json(file) if file.is_file() else None
        if isinstance(found, dict) and found.get("identity") == identity:
            return Scores(**found["scores"]), found["replies"]
    return None
