"""The batches of GRPO: sampled from the current weights before each step."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.loss import advantages
from groundup.alignment.reinforce.prompts import Item
from groundup.alignment.reinforce.replies import (
    Reply,
    Reward,
    copied_frac,
    reward_of,
    sample_replies,
)
from groundup.base.files import write_text
from groundup.base.metrics import append_metrics
from groundup.base.targets import IGNORE_INDEX
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import pad_rows


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Rewards of the replies to some prompts, and what nobody trains."""

    rewards: list[float]
    """Mean reward of each prompt."""
    n_equal_groups: int
    """Number of prompts whose replies all have the same reward. They are not in the loss."""
    mean_tokens: float
    complete_frac: float
    """Fraction of the replies that ended by themselves."""
    copied_frac: float
    """Mean fraction of the words of a reply that are in its prompt."""

    @property
    def mean_reward(self) -> float:
        """Mean over the prompts."""
        return sum(self.rewards) / len(self.rewards)


@dataclass(kw_only=True)
class Rollouts:
    """Samples replies before each step and makes a batch of them.

    A batch depends only on its number, the seed and the weights, so a run that is resumed from a
    checkpoint continues as if it had not been interrupted.
    """

    language_model: LanguageModel
    items: Sequence[Item]
    reward: Reward
    config: ReinforceConfig
    dtype: torch.dtype
    on_rollout: Callable[[Scores], None] | None = None
    """Called with the scores of each step, before its update."""
    _k: int = -1
    _batch: tuple[Tensor, ...] = field(default=())
    _line: dict[str, Any] = field(default_factory=dict)
    _log_is_cut: bool = False

    def before_step(self, k: int) -> None:
        """Sample the replies of step k + 1."""
        config = self.config
        order = np.random.default_rng([config.seed, k])
        chosen = order.choice(len(self.items), config.batch_size, replace=False)
        items = [self.items[i] for i in chosen]
        scores, replies, rewards = score(
            self.language_model, items, config.group_size, self.reward, config, self.dtype,
            seed=config.seed + 1 + k,
        )  # fmt: skip
        self._k, self._batch = k, self._batch_of(items, replies, rewards)
        if self.on_rollout is not None:
            self.on_rollout(scores)
        self._line = {
            "step": k + 1,
            "mean_reward": scores.mean_reward,
            "n_groups": len(items),
            "n_equal_groups": scores.n_equal_groups,
            "mean_tokens": scores.mean_tokens,
            "complete_frac": scores.complete_frac,
            "copied_frac": scores.copied_frac,
            "example": {"prompt": items[0].prompt, "reply": replies[0][0].text},
        }

    def batch(self, k: int) -> tuple[Tensor, ...]:
        """Return ids (B, T), targets (B, T) and weights (B,) of the replies of step k + 1.

        For another number than that of the last `before_step`, it is a batch of the largest size
        that can occur, for estimates of time and memory.
        """
        if k == self._k:
            return self._batch
        longest = max(self.items, key=lambda item: len(item.ids))
        n = self.config.max_new_tokens
        reply = Reply((longest.ids[-1],) * n, "", is_complete=False)
        groups = self.config.batch_size
        rewards = torch.zeros(groups, self.config.group_size)
        rewards[:, 0] = 1.0
        return self._batch_of([longest] * groups, [[reply] * rewards.shape[1]] * groups, rewards)

    def _batch_of(
        self, items: Sequence[Item], replies: Sequence[Sequence[Reply]], rewards: Tensor
    ) -> tuple[Tensor, ...]:
        weights = advantages(rewards, divide_by_std=self.config.divide_by_std).flatten()  # (B,)
        rows = [
            (item, reply) for item, group in zip(items, replies, strict=True) for reply in group
        ]
        # Replies without an advantage have no gradient, unless the KL divergence counts.
        has_gradient = [bool(w) or self.config.kl_weight > 0 for w in weights]
        kept = [i for i, keep in enumerate(has_gradient) if keep] or [0]
        ids = [[*item.ids, *reply.ids[:-1]] for item, reply in (rows[i] for i in kept)]
        targets = [
            [IGNORE_INDEX] * (len(item.ids) - 1) + list(reply.ids)
            for item, reply in (rows[i] for i in kept)
        ]
        # The loss is a mean over the rows of the batch; it must be one over all replies.
        return (
            pad_rows(ids, pad=0),
            pad_rows(targets, pad=IGNORE_INDEX),
            weights[kept] * (len(kept) / len(rows)),
        )

    def write(self, log: Path, step: int) -> None:
        """Append the scores of a finished step to a JSON Lines file.

        Lines of the same and later steps, from before an interruption, are replaced.
        """
        assert self._line["step"] == step
        if not self._log_is_cut:
            kept = [json.dumps(line) + "\n" for line in read_log(log) if line["step"] < step]
            write_text(log, "".join(kept))
            self._log_is_cut = True
        append_metrics(log, self._line)


def read_log(log: Path) -> list[dict[str, Any]]:
    """Read the lines that `Rollouts.write` wrote; one that was cut off by a kill is left out."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    found = []
    for line in lines:
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def score(
    language_model: LanguageModel,
    items: Sequence[Item],
    n: int,
    reward: Reward,
    config: ReinforceConfig,
    dtype: torch.dtype,
    *,
    seed: int,
) -> tuple[Scores, list[list[Reply]], Tensor]:
    """Sample `n` replies to each prompt and compute their rewards.

    Returns:
        The scores, the replies, and the rewards (prompts, n).

    Raises:
        UserError: The reward function fails.
    """
    replies = sample_replies(
        language_model,
        items,
        n,
        max_new_tokens=config.max_new_tokens,
        dtype=dtype,
        seed=seed,
    )
    rewards = [
        [reward_of(reward, item, reply) for reply in group]
        for item, group in zip(items, replies, strict=True)
    ]
    every = [reply for group in replies for reply in group]
    copied = [
        copied_frac(item, reply)
        for item, group in zip(items, replies, strict=True)
        for reply in group
    ]
    scores = Scores(
        rewards=[sum(group) / len(group) for group in rewards],
        n_equal_groups=sum(len(set(group)) == 1 for group in rewards),
        mean_tokens=sum(len(reply.ids) for reply in every) / len(every),
        complete_frac=sum(reply.is_complete for reply in every) / len(every),
        copied_frac=sum(copied) / len(copied),
    )
    return scores, replies, torch.tensor(rewards)
