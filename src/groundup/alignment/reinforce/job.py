"""The job of reinforcement learning: a model with adapters, its prompts and its reward."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.loss import policy_loss
from groundup.alignment.reinforce.prompts import Items
from groundup.alignment.reinforce.replies import Reply, Reward
from groundup.alignment.reinforce.rollouts import Rollouts, Scores, score
from groundup.base.config import to_mapping
from groundup.base.device import choose_dtype
from groundup.base.files import read_json, write_json
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel
from groundup.evaluation.merged import MergeReport, merge_and_save
from groundup.finetune.batches import token_log_probabilities
from groundup.finetune.job import FineTuning, adamw, base_fingerprint
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, without_lora

_N_COMPARED = 8
"""Number of test texts on which the merged model is compared with the adapters."""
_TEST_SEED = 2**31
"""Added to the seed for the replies to the test prompts, before and after training alike."""
_N_EXAMPLES = 5


class Tested(NamedTuple):
    """A test of the model."""

    scores: Scores
    replies: tuple[str, ...]
    """The first reply to each of the first test prompts."""
    elapsed_s: float


@dataclass
class ReinforceJob:
    """A model with adapters, its prompts and its reward.

    The language model is changed: it gets adapters.
    """

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
            "reward": reward_name(self.reward),
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
        """The model with its adapters."""
        return self.language_model.model

    def test(self) -> Tested:
        """Score the test set."""
        began_at = time.monotonic()
        scores, replies, _ = score(
            self.language_model,
            self.items.test,
            self.config.test_samples,
            self.reward,
            self.config,
            self.dtype,
            seed=self.config.seed + _TEST_SEED,
        )
        shown = tuple(_shown(group[0]) for group in replies[:_N_EXAMPLES])
        return Tested(scores, shown, time.monotonic() - began_at)

    def rollouts(self, on_rollout: Callable[[Scores], None] | None = None) -> Rollouts:
        """Make the batches of the training."""
        return Rollouts(
            language_model=self.language_model,
            items=self.items.train,
            reward=self.reward,
            config=self.config,
            dtype=self.dtype,
            on_rollout=on_rollout,
        )

    def tuning(self, rollouts: Rollouts, *, after_s: float, started_at: float) -> FineTuning:
        """Describe the training.

        Args:
            rollouts: The batches.
            after_s: Seconds that the test after training will take.
            started_at: When the command started, by `time.monotonic()`.
        """
        config = self.config
        return FineTuning(
            model=self.model,
            loss=partial(_loss, self.model, config),
            batches=rollouts,
            optimizer=adamw(self.model, config, beta2=0.99),
            n_steps=config.n_steps(len(self.items.train)),
            config=config,
            identity=self.identity,
            count=lambda batch: len(batch[0]),
            before_step=rollouts.before_step,
            after_s=after_s,
            started_at=started_at,
        )

    def save(self, folder: Path) -> MergeReport:
        """Write the merged model, the adapters and the tokenizer."""
        report = merge_and_save(
            self.model,
            folder,
            base_name=str(self.config.run),
            base_sha256=self.base_sha256,
            # Twice, so that there are two tokens.
            check_ids=[[*item.ids, *item.ids] for item in self.items.test[:_N_COMPARED]],
        )
        self.language_model.save_tokenizer(folder)
        if self.language_model.is_assistant:
            write_json(folder / ASSISTANT_MARK, {"job": "reinforce"})
        return report

    def keep_test(self, run: RunFolder, tested: Tested) -> None:
        """Write the test before training, for a run that is resumed."""
        about = {**tested._asdict(), "scores": dataclasses.asdict(tested.scores)}
        write_json(run.evaluation / "before.json", {"identity": self.identity, **about})

    def kept_test(self, wanted: Path) -> Tested | None:
        """Return what `keep_test` wrote for this job in one of its folders; None: nothing."""
        for folder in sorted(wanted.parent.glob(f"{wanted.name}*")):
            file = RunFolder(folder).evaluation / "before.json"
            found = read_json(file) if file.is_file() else None
            if isinstance(found, dict) and found.get("identity") == self.identity:
                scores = Scores(**found["scores"])
                return Tested(scores, tuple(found["replies"]), found["elapsed_s"])
        return None


def log_of(run: RunFolder) -> Path:
    """The file with the scores of each step."""
    return run.samples / "rollouts.jsonl"


def reward_name(reward: Reward) -> str:
    """Name a reward function."""
    return f"{getattr(reward, '__module__', '')}.{getattr(reward, '__qualname__', repr(reward))}"


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


def _shown(reply: Reply) -> str:
    return reply.text.strip() + ("" if reply.is_complete else " ...")
