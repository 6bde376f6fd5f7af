"""The choice of the tokens of one text: penalties, bias, constraint, draw and log-probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.generation.constraint import Constraint
from groundup.generation.request import Sampling
from groundup.generation.sampling import draw, most_likely, next_token_probabilities


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities of the model at one position, before temperature, penalties and cuts."""

    drawn: float
    """Log-probability of the token that was drawn."""
    top: tuple[tuple[int, float], ...]
    """Ids and log-probabilities of the most likely tokens; the drawn one is always among them."""


@dataclass(frozen=True)
class Token:
    """One generated token."""

    id: int
    logprobs: TokenLogprobs | None = None


class Sampler:
    """Draws the tokens of one text.

    The random numbers of a text depend on its seed and the number of tokens drawn before, and on
    nothing else: not on other texts, nor on how the logits were computed.

    Args:
        sampling: The settings.
        prompt: Ids of the prompt, for the repetition penalty.
        seed: Random seed of this text.
        stop_ids: Ids that end the text; a constraint allows them where the text is complete.
        logprobs: Number of most likely tokens to list. None: no log-probabilities.
        constraint: Restricts the tokens. None: all are allowed.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        *,
        seed: int,
        stop_ids: Sequence[int] = (),
        logprobs: int | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.constraint = constraint
        self._sampling = sampling
        self._stop_ids = list(stop_ids)
        self._logprobs = logprobs
        self._generator = torch.Generator().manual_seed(seed)
        self._generated: Counter[int] = Counter()
        self._seen = set(prompt) if sampling.repetition_penalty != 1.0 else set()
        self._bias_ids = torch.tensor(list(sampling.logit_bias), dtype=torch.long)
        self._bias = torch.tensor(list(sampling.logit_bias.values()), dtype=torch.float32)

    def draw(self, logits: Tensor, n_left: int) -> Token:
        """Draw the next token from the logits (V,) of the model.

        Args:
            logits: Logits of the model. They are not changed.
            n_left: Number of tokens that may still be generated, at least 1.

        Raises:
            UserError: No token is allowed, or no logit is finite.
        """
        changed, sampling = self._changed(logits, n_left), self._sampling
        if sampling.is_greedy:
            token = most_likely(changed)
        else:
            probabilities = next_token_probabilities(
                changed,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                min_p=sampling.min_p,
            )
            token = draw(probabilities, self._generator)
        if sampling.has_penalties:
            self._generated[token] += 1
            self._seen.add(token)
        if self.constraint is not None and token not in self._stop_ids:
            self.constraint.accept(token)
        n_top = self._logprobs
        return Token(token, None if n_top is None else token_logprobs(logits, token, n_top))

    def _changed(self, logits: Tensor, n_left: int) -> Tensor:
        """The logits after penalties, bias and constraint."""
        sampling = self._sampling
        if sampling.repetition_penalty != 1.0 and self._seen:
            ids = torch.tensor(list(self._seen))
            values = logits[ids]
            factor = float(sampling.repetition_penalty)
            logits = logits.index_put(
                (ids,), torch.where(values > 0, values / factor, values * factor)
            )
        if self._generated and (sampling.presence_penalty or sampling.frequency_penalty):
            ids = torch.tensor(list(self._generated))
            counts = torch.tensor(list(self._generated.values()), dtype=torch.float32)
            penalty = sampling.presence_penalty + sampling.frequency_penalty * counts
            logits = logits.index_put((ids,), logits[ids] - penalty)
        if len(self._bias_ids):
            logits = logits.index_put((self._bias_ids,), logits[self._bias_ids] + self._bias)
        if self.constraint is not None:
            allowed = self.constraint.allowed(n_left)
            if self.constraint.may_end and self._stop_ids:
                allowed[self._stop_ids] = True
            logits = logits.masked_fill(~allowed, float("-inf"))
        return logits


def token_logprobs(logits: Tensor, token: int, n_top: int) -> TokenLogprobs:
    """Compute the log-probabilities of a token and of the most likely ones.

    >>> found = token_logprobs(torch.tensor([0.5, 0.3, 0.2]).log(), 2, 1)
    >>> round(found.drawn, 3), [(i, round(p, 3)) for i, p in found.top]
    (-1.609, [(0, -0.693), (2, -1.609)])
    """
    logprobs = logits - logits.logsumexp(dim=0)
    drawn = float(logprobs[token])
    top: list[tuple[int, float]] = []
    if n_top:
        least = logprobs.topk(min(n_top, len(logprobs))).values[-1]
        ids = ((logprobs >= least) & logprobs.isfinite()).nonzero()[:, 0]  # ascending
        best = logprobs[ids].sort(descending=True, stable=True)
        top = list(zip(ids[best.indices].tolist(), best.values.tolist(), strict=True))[:n_top]
    if token not in [i for i, _ in top]:
        top.append((token, drawn))
    return TokenLogprobs(drawn, tuple(top))
