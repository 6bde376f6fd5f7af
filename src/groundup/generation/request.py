"""What is asked of a model: a prompt, how to sample, and when to stop."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from groundup.base.arguments import WrongTypeError, own_checks, shown, whole_number
from groundup.base.errors import UserError
from groundup.generation.constraint import Constraint
from groundup.generation.prompt import check_prompt
from groundup.generation.sampling import GREEDY_BELOW, check_sampling
from groundup.model.config import GPTConfig

MOST_LOGPROBS = 20
"""Largest number of likely tokens that are listed at each position."""


@own_checks
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen from the logits.

    The logits are changed in this order: repetition penalty, presence and frequency penalty, logit
    bias, temperature, top-k, top-p, min-p.

    Raises:
        UserError: A value is out of its range.
    """

    temperature: float | int = 1.0
    """Divides the logits: below 1 makes likely tokens likelier, above 1 makes the text more random.
    0 always takes the most likely token, of equal ones the smallest id."""
    top_k: int | None = None
    """Sample from this many most likely tokens. None disables it."""
    top_p: float | int | None = None
    """Sample from the smallest set of tokens with this total probability. None disables it."""
    min_p: float | int | None = None
    """Sample from tokens with at least this share of the largest probability. None disables it."""
    repetition_penalty: float | int = 1.0
    """Divides positive logits, and multiplies negative ones, of all tokens in prompt and text."""
    presence_penalty: float | int = 0.0
    """Subtracted from the logits of tokens that were generated at least once."""
    frequency_penalty: float | int = 0.0
    """Subtracted from the logits of generated tokens, once for each time."""
    logit_bias: Mapping[int, float | int] = field(default_factory=dict)
    """Added to the logits of these ids."""
    seed: int = 0
    """Random seed of the samples, the same on every device."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_sampling(self.temperature, self.top_k, self.top_p, self.min_p)
        if not 0.0 < self.repetition_penalty < math.inf:
            raise UserError(
                f"repetition_penalty is {self.repetition_penalty}. Expected a number above 0; 1 "
                "disables it.",
                settings={"repetition_penalty": 1.1},
            )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise UserError(f"{name} is {value}. Expected a finite number; 0 disables it.")
        for index, bias in self.logit_bias.items():
            if math.isnan(bias) or bias == math.inf:
                raise UserError(
                    f"logit_bias of token {index} is {bias}. Expected a finite number, or -inf to "
                    "exclude the token."
                )

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)


@own_checks
@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and what to generate from it."""

    ids: Sequence[int]
    """Token ids of the prompt, at least one."""
    max_new_tokens: int
    """Maximum number of new tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    """Number of texts. The first has the seed of `sampling`; each further text adds 1."""
    stop_ids: Collection[int] = ()
    """Token ids that end the text."""
    stop: Sequence[str] = ()
    """Strings that end the text; none of a matched one is part of it."""
    logprobs: int | None = None
    """Number of most likely tokens whose log-probabilities are returned with each token. None: no
    log-probabilities are computed."""
    constraint: Callable[[], Constraint] | None = None
    """Makes the constraint of a text. None: any text."""
    slide: bool = False
    """Where the text no longer fits in the context, read its last tokens. Otherwise it ends."""
    prompt_lookup: bool = False
    """Copy likely continuations from the text so far, and verify several tokens at once. The
    tokens are the same."""

    def check(self, vocab_size: int, context_length: int) -> None:
        """Check the values that depend on the model.

        Raises:
            UserError: The prompt is empty, too long or has ids outside the vocabulary, or a setting
                is out of range.
        """
        check_prompt(self.ids, vocab_size)
        whole_number("max_new_tokens", self.max_new_tokens, at_least=0)
        whole_number("n", self.n)
        if not self.slide and len(self.ids) > context_length:
            raise UserError(
                f"The prompt has {len(self.ids):,} tokens, and the context of the model has "
                f"{context_length:,}. A shorter prompt is expected."
            )
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise UserError(
                f"logprobs is {self.logprobs}. Expected a number from 0 to {MOST_LOGPROBS}.",
                settings={"logprobs": 5},
            )
        outside = [i for i in self.sampling.logit_bias if not 0 <= i < vocab_size]
        if outside:
            raise UserError(
                f"logit_bias has the token id {outside[0]}, and the vocabulary ends at "
                f"{vocab_size - 1}."
            )
        check_stop(self.stop)


def check_lookup(request: Request, config: GPTConfig) -> None:
    """Check that the model can remove tokens, if prompt lookup needs it.

    Raises:
        UserError: It cannot.
    """
    if request.prompt_lookup and "d" in config.kinds:
        raise UserError(
            f"layers is {config.layers!r}, and prompt_lookup removes rejected tokens, which a "
            "gated delta rule (d) cannot. A model without d, or no prompt_lookup, is expected.",
            settings={"prompt_lookup": False},
        )


@own_checks
def check_stop(stop: Sequence[str]) -> None:
    """Check stop strings.

    Raises:
        UserError: One is empty, or no text.
    """
    if isinstance(stop, str):
        raise WrongTypeError(f"stop is {shown(stop)}. A list of strings is expected.")
    for string in stop:
        if not isinstance(string, str):
            raise WrongTypeError(f"A stop string is {shown(string)}. Text is expected.")
        if not string:
            raise UserError("A stop string is empty. At least one character is expected.")
