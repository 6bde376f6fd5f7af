"""Losses of preference tuning, from the log-probabilities of both answers under both models.

The names are those of `DPOConfig.loss_type` of trl. All log-probabilities are sums over the tokens
of an answer, in nats.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from groundup.alignment.prefer.config import LossName
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import token_log_probabilities
from groundup.model.gpt import GPT
from groundup.train.precision import MixedPrecision


@dataclass(frozen=True)
class PairLogProbabilities:
    """Log-probabilities of the answers of n pairs, in nats; index 0 is chosen, 1 is rejected."""

    policy: Float[Tensor, "n 2"]
    """Under the model that is trained."""
    reference: Float[Tensor, "n 2"]
    """Under the model before training."""
    n_tokens: Int[Tensor, "n 2"]
    """Number of tokens of each answer, with its end."""

    @property
    def ratios(self) -> Float[Tensor, "n 2"]:
        """Change of each log-probability: log p - log p_reference."""
        return self.policy - self.reference


def preference_losses(
    pairs: PairLogProbabilities,
    name: LossName,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    sft_weight: float = 0.0,
) -> Float[Tensor, " n"]:
    """Compute the loss of each pair.

    With h = log (p / p_ref)(chosen) - log (p / p_ref)(rejected):

    - "sigmoid" (DPO): -log sigmoid(beta h). With label smoothing e (conservative DPO):
      -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h).
    - "robust": (-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e), whose mean over
      labels that are flipped with probability e is the DPO loss of the true labels.
    - "ipo": (h' - 1 / (2 beta))^2, where h' is h with each log ratio divided by the number of
      tokens of its answer.
    - "sigmoid_norm": -log sigmoid(beta h'), DPO with the same division.

    Args:
        pairs: The log-probabilities.
        name: The loss.
        beta: Strength of the pull toward the reference model.
        label_smoothing: The probability that a label is wrong, for "sigmoid" and "robust".
        sft_weight: This many times the mean loss of the tokens of the chosen answer is added. The
            losses above fall also when both answers become less likely; this one does not.

    Source: "Direct Preference Optimization", equation 7; "A note on DPO with noisy preferences &
        relationship to IPO" (Mitchell, 2023), conservative DPO; "Provably Robust DPO" (Chowdhury et
        al., 2024), the robust loss; "A General Theoretical Paradigm to Understand Learning from
        Human Preferences", equation 17, per token as in trl; "Tulu 3" (Lambert et al., 2024),
        length-normalized DPO; "Iterative Reasoning Preference Optimization", equation 1, for the
        loss of the chosen answer.

    >>> import torch
    >>> zero = torch.zeros(1, 2)
    >>> equal = PairLogProbabilities(zero, zero, torch.ones(1, 2).long())
    >>> round(preference_losses(equal, "sigmoid", beta=0.1).item(), 4)  # ln 2
    0.6931
    """
    losses = _ranking_losses(pairs, name, beta, label_smoothing)
    if not sft_weight:
        return losses
    return losses - sft_weight * pairs.policy[:, 0] / pairs.n_tokens[:, 0].clamp(min=1)


def _ranking_losses(
    pairs: PairLogProbabilities, name: LossName, beta: float, label_smoothing: float
) -> Float[Tensor, " n"]:
    ratios = pairs.ratios
    if name in ("ipo", "sigmoid_norm"):
        ratios = ratios / pairs.n_tokens.clamp(min=1)
    h = ratios[:, 0] - ratios[:, 1]  # (n,)
    if name == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    right, wrong = -F.logsigmoid(beta * h), -F.logsigmoid(-beta * h)
    if name == "robust":
        smoothed = (1 - label_smoothing) * right - label_smoothing * wrong
        return smoothed / (1 - 2 * label_smoothing)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def pair_log_probabilities(
    model: GPT | MixedPrecision, ids: Int[Tensor, "n 2 T"], targets: Int[Tensor, "n 2 T"]
) -> Float[Tensor, "n 2"]:
    """Compute the log-probability in nats of both answers of each pair.

    Args:
        model: The model; with `MixedPrecision` the products are computed with rounded weights.
        ids: Token ids of prompt and answer.
        targets: The token after each of them; -100 where it does not belong to the answer.
    """
    nats = token_log_probabilities(model, ids.flatten(0, 1), targets.flatten(0, 1))  # (2n, T)
    sums: Tensor = nats.sum(dim=-1).view(-1, 2)
    return sums


def n_answer_tokens(targets: Int[Tensor, "n 2 T"]) -> Int[Tensor, "n 2"]:
    """Count the tokens of both answers of each pair, with the end of the answer."""
    counts: Tensor = (targets != IGNORE_INDEX).sum(dim=-1)
    return counts
