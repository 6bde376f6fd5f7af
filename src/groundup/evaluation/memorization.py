"""How much of the training set a model recites, and whether it knows a secret number in it.

A model that continues passages of the training set word for word, and those of the validation set
less often, has memorized them. A canary is a text with a number that was put into the training set
on purpose: if the model finds it likelier than nearly all other numbers, it would also tell others.

Source: "Quantifying Memorization Across Neural Language Models" (Carlini et al., 2023), section 3;
"The Secret Sharer" (Carlini et al., 2019), section 4.
"""

import math
import random
import re
from dataclasses import dataclass

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UsageError, UserError
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.data.store import TokenStore
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.paired import require_items
from groundup.evaluation.run_data import data_of, open_side
from groundup.evaluation.tasks.prompts import encode_pairs
from groundup.generation.decoder import Decoder
from groundup.generation.generate import generate
from groundup.generation.scoring import Prompt, score

PASSAGE_TOKENS = 32
"""Tokens of a prompt, and as many that are to follow; at most half of the context."""
_N_OTHERS = 999
_AT_ONCE = 64
_LEAST_DIGITS = 3


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How likely a canary is among equal texts with other numbers."""

    canary: str
    rank: int
    """1: no other number is likelier."""
    n_others: int
    bits: float
    """log2 of the number of texts over the rank; 0 to 1 is expected of a number never seen."""


@dataclass(frozen=True, kw_only=True)
class Memorization:
    """What a model recites."""

    n_tokens: int
    """Tokens of a prompt, and of what follows it."""
    train: Share | None
    """Passages of the training set that the model continues word for word."""
    validation: Share | None
    """The same for the validation set, which shows how often that happens by chance."""
    exposures: tuple[Exposure, ...]


@takes_settings(EvaluateConfig, "run")
def measure_memorization(config: EvaluateConfig) -> Memorization:
    """Measure how much a model recites, and how exposed canaries are.

    Raises:
        UsageError: There are fewer than 30 passages, or a canary lacks a number.
        UserError: There is no model, or no data.
    """
    for canary in config.canary:
        _digits(canary)
    if config.recitations is not None:
        try:
            require_items(config.recitations, "passages")
        except UserError as error:
            raise UsageError(error.message) from error
    path = find_run(config.run)
    language_model = load(path)
    model = language_model.model.to(choose_device(config.device))
    form = form_of(config.dtype, config.quantize)
    decoder = decoder_of(model, language_model.path, form=form)
    n_tokens = min(PASSAGE_TOKENS, model.config.context_length // 2)
    train = validation = None
    if config.recitations is not None:
        run = RunFolder.of(path)
        data = config.data or data_of(run)
        train, validation = (
            _recited(
                decoder,
                open_side(data, side, language_model.tokenizer, run),
                config.recitations,
                n_tokens,
            )
            for side in ("train", "validation")
        )
    return Memorization(
        n_tokens=n_tokens,
        train=train,
        validation=validation,
        exposures=tuple(
            canary_exposure(language_model, decoder, canary) for canary in config.canary
        ),
    )


def canary_exposure(
    language_model: LanguageModel,
    decoder: Decoder,
    canary: str,
    *,
    n_others: int = _N_OTHERS,
    seed: int = 0,
) -> Exposure:
    """Compute the rank of a canary among equal texts whose digits are drawn at random.

    Args:
        language_model: The model with its tokenizer.
        decoder: Computes the logits.
        canary: A text with a number of at least three digits.
        n_others: Number of texts to compare with; fewer where there are not as many numbers.
        seed: The random seed of the numbers.

    Raises:
        UsageError: The text has fewer than three digits.
    """
    places = _digits(canary)
    draw = random.Random(seed)
    texts = {canary: None}
    n_others = min(n_others, 10 ** len(places) - 1)
    while len(texts) <= n_others:
        letters = list(canary)
        for place in places:
            letters[place] = str(draw.randrange(10))
        texts["".join(letters)] = None
    start, ends = canary[: places[0]], [text[places[0] :] for text in texts]
    begin, *others = encode_pairs(language_model.tokenizer, start, ends)
    first = [*getattr(language_model.tokenizer, "begin_ids", []), *begin]
    ids = first or language_model.start_ids
    if not ids:
        raise UsageError("The canary begins with its number. Words before it are expected.")
    prompts = [
        Prompt(ids=ids, continuations=others[i : i + _AT_ONCE])
        for i in range(0, len(others), _AT_ONCE)
    ]
    found = dict(score(decoder, prompts))
    nats = [each.nats for index in range(len(prompts)) for each in found[index]]
    # Of two texts with the same likelihood, such as those of unknown tokens, neither is known.
    rank = 1 + sum(other >= nats[0] for other in nats[1:])
    return Exposure(
        canary=canary, rank=rank, n_others=n_others, bits=math.log2((n_others + 1) / rank)
    )


def _digits(canary: str) -> list[int]:
    places = [match.start() for match in re.finditer(r"[0-9]", canary)]
    if len(places) < _LEAST_DIGITS:
        raise UsageError(
            f"The canary {canary!r} has {len(places)} digits. A text with a secret number of at "
            f"least {_LEAST_DIGITS} digits is expected.",
            settings={"canary": "The code of the door is 281764"},
        )
    return places


def _recited(decoder: Decoder, tokens: TokenStore, n: int, n_tokens: int) -> Share:
    """How many passages of a store are continued word for word."""
    n_starts = tokens.n_tokens - 2 * n_tokens + 1
    if n_starts < n:
        raise UserError(
            f"This store has {tokens.n_tokens:,} tokens, which are too few for {n} different "
            f"passages of {2 * n_tokens}.",
            where=tokens.folder,
        )
    starts = random.Random(0).sample(range(n_starts), n)
    passages = [tokens.read(start, start + 2 * n_tokens).tolist() for start in starts]
    n_same = 0
    for first in range(0, n, _AT_ONCE):
        some = passages[first : first + _AT_ONCE]
        said = generate(decoder, [p[:n_tokens] for p in some], n_tokens, temperature=0)
        n_same += sum(new == passage[n_tokens:] for new, passage in zip(said, some, strict=True))
    return wilson(n_same, n)
