"""How the loss falls with the context: whether a long context is used, and not only accepted.

The same tokens are predicted from the last 256 tokens before them, from the last 512, and so on.
What all contexts have in common cancels out, token by token, so small differences are measured.
The context beyond which the loss does not fall any more is the effective window of the model.
"""

import bisect
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.folder_kinds import find_run
from groundup.base.results import record_if_possible
from groundup.base.run import RunFolder
from groundup.data.protocol import Tokens
from groundup.data.windows import Documents
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.copying import CopyLoss, copy_losses
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.load import load
from groundup.evaluation.paired import MIN_ITEMS, Difference, paired_bootstrap
from groundup.evaluation.reading import let_read, read_to_the_end
from groundup.evaluation.run_data import data_of, documents_of, open_side
from groundup.generation.decoder import Decoder

_log = logging.getLogger(__name__)

N_TARGETS = 4096
BLOCK = 64
"""Neighboring targets are not independent; the bootstrap draws blocks of as many."""
_LEAST_TARGETS = BLOCK * MIN_ITEMS
_FIRST, _LEAST_CONTEXT, _LEAST_PART = 256, 32, 8
_MOST_READ = 2**20
"""Tokens read for the longest context, which decides over how many places targets are spread."""


@dataclass(frozen=True, kw_only=True)
class ContextLoss:
    """The loss with one context."""

    n_context: int
    """Largest number of tokens before a target; it has at least 7/8 of them, 3/4 below 64."""
    nats: float
    """Mean loss per target."""
    n_targets: int
    """Number of tokens that were predicted."""
    excess: Difference
    """The loss minus that with the longest context, of the same targets."""


@dataclass(frozen=True, kw_only=True)
class ContextUse:
    """The loss of the same targets with growing contexts, and of passages read again."""

    checkpoint: str
    data: str
    documents: Documents
    """How the windows held documents. Where they are separate, a context does not cross them."""
    losses: tuple[ContextLoss, ...]
    """From the shortest to the longest context."""
    copies: tuple[CopyLoss, ...]
    """From the shortest to the longest distance."""

    @property
    def longest(self) -> ContextLoss:
        """The loss with the longest context."""
        return self.losses[-1]

    @property
    def effective_window(self) -> int:
        """The shortest context from which on the loss is not clearly above that of the longest."""
        found = self.longest.n_context
        for each in reversed(self.losses[:-1]):
            if each.excess.low > 0:
                break
            found = each.n_context
        return found

    @property
    def verdict(self) -> str:
        """Say in a sentence whether a longer context would help."""
        N, T = self.effective_window, self.longest.n_context
        if N < T:
            begin, shorter = f"Context beyond {N:,} tokens brings nothing", N
        else:
            begin, shorter = f"More context still helps at T = {T:,}", self.losses[-2].n_context
        excess = next(each.excess for each in self.losses if each.n_context == shorter)
        return (
            f"{begin}: from {shorter:,} to {T:,} tokens the loss changes by {-excess.mean:+.4f} "
            f"nats/token (95 % interval {-excess.high:+.4f} to {-excess.low:+.4f})."
        )

    @property
    def copies_from(self) -> int | None:
        """The longest distance at which a second reading is clearly easier. None: there is none."""
        return max((each.distance for each in self.copies if each.gain.low > 0), default=None)

    @property
    def harmed_beyond(self) -> int | None:
        """The best context, if the longest is clearly worse than it. None: it is not."""
        best = min(self.losses, key=lambda each: each.nats)
        return best.n_context if best.excess.high < 0 else None


@takes_settings(EvaluateConfig, "run")
def measure_context(config: EvaluateConfig) -> ContextUse:
    """Measure how a model uses its context, and write RUN/evaluation/context.json if possible.

    Raises:
        UserError: There is no model or no validation set, it is too short, or the model cannot
            read as many tokens.
    """
    path = find_run(config.run)
    run = RunFolder.of(path)
    language_model = load(path)
    model = language_model.model.to(choose_device(config.device))
    data = data_of(run) if config.data is None else config.data
    tokens = open_side(data, "validation", language_model.tokenizer, run)
    n_targets, longest = _sizes(
        tokens.n_tokens, config.context_length, model.config.context_length, str(data)
    )
    let_read(model, longest, setting="context_length")
    form = form_of(config.dtype, config.quantize)
    decoder = decoder_of(model, language_model.path, form=form)
    documents = documents_of(run) if config.documents is None else config.documents
    result = ContextUse(
        checkpoint=language_model.path.name,
        data=str(data),
        documents=documents,
        losses=context_losses(decoder, tokens, longest, n_targets, documents),
        copies=copy_losses(decoder, tokens, longest),
    )
    record_if_possible(
        run.evaluation / "context.json",
        {**vars(result), "effective_window": result.effective_window, "verdict": result.verdict},
    )
    return result


def context_losses(
    decoder: Decoder,
    tokens: Tokens,
    longest: int,
    n_targets: int = N_TARGETS,
    documents: Documents = "stream",
) -> tuple[ContextLoss, ...]:
    """Compute the loss of the same targets with contexts of 256, 512, ... tokens.

    Args:
        decoder: Computes the logits.
        tokens: A text of at least `longest` + `n_targets` tokens.
        longest: The longest context. Where it is below 4,096, contexts begin at a sixteenth of it.
        n_targets: Number of targets; a few less where it is no multiple of 64.
        documents: How windows hold documents. Where they are separate, a context ends at the start
            of the document, and the first token of a document is not a target.
    """
    starts = [] if documents == "stream" else tokens.document_starts.tolist()
    found = {}
    for n_context in _contexts(longest):
        _log.info("context of %d tokens", n_context)
        parts = [
            _stretch_nats(decoder, tokens, start, size, n_context, starts)
            for start, size in _stretches(tokens.n_tokens, longest, n_targets)
        ]
        found[n_context] = np.concatenate(parts).reshape(-1, BLOCK)
    is_target = ~np.isnan(found[longest])
    used = is_target.any(axis=1)
    means = {n_context: np.nanmean(nats[used], axis=1) for n_context, nats in found.items()}
    return tuple(
        ContextLoss(
            n_context=n_context,
            nats=float(nats.mean()),
            n_targets=int(is_target.sum()),
            excess=paired_bootstrap(nats, means[longest]),
        )
        for n_context, nats in means.items()
    )


def _contexts(longest: int) -> list[int]:
    """List the powers of two below the longest context, and the longest.

    >>> _contexts(256), _contexts(1000), _contexts(8192)[:2]
    ([32, 64, 128, 256], [32, 64, 128, 256, 512, 1000], [256, 512])
    """
    first = max(1, min(_FIRST, max(_LEAST_CONTEXT, longest // 16), longest // 2))
    powers = [1 << k for k in range(64) if first < 2 << k and 1 << k < longest]
    return [*powers, longest]


def _stretches(n_tokens: int, longest: int, n_targets: int) -> list[tuple[int, int]]:
    """Spread the targets over the text: the first target and the number of each stretch."""
    n_blocks = n_targets // BLOCK
    n_stretches = min(n_blocks, max(1, _MOST_READ // longest))
    size, n_longer = divmod(n_blocks, n_stretches)
    sizes = [(size + (number < n_longer)) * BLOCK for number in range(n_stretches)]
    starts = np.linspace(longest, n_tokens - max(sizes), n_stretches).astype(int)
    return list(zip(map(int, starts), sizes, strict=True))


def _stretch_nats(
    decoder: Decoder,
    tokens: Tokens,
    start: int,
    size: int,
    n_context: int,
    document_starts: Sequence[int],
) -> Float[np.ndarray, " n"]:
    """Compute the loss of the targets from `start` on, each with at most `n_context` tokens.

    They are computed in parts of an eighth of the context. NaN: the token is not a target.
    """
    nats = np.full(size, np.nan)
    step = max(min(_LEAST_PART, n_context // 4), n_context // 8, 1)
    cuts = {*range(start, start + size, step), start + size}
    cuts |= {each for each in document_starts if start <= each < start + size}
    for first, stop in itertools.pairwise(sorted(cuts)):
        begin = 0
        if document_starts:
            begin = document_starts[bisect.bisect_right(document_starts, first) - 1]
        first = max(first, begin + 1)  # nothing predicts the first token of a document
        if first < stop:
            ids = tokens.read(max(begin, stop - 1 - n_context), stop).tolist()
            found = read_to_the_end(decoder, ids, stop - first).nats
            nats[first - start : stop - start] = found
    return nats


def _sizes(n_tokens: int, wanted: int | None, context: int, where: str) -> tuple[int, int]:
    """Choose the number of targets and the longest context for a text.

    Raises:
        UserError: The text is too short.
    """
    n_targets = min(N_TARGETS, n_tokens // 2 // BLOCK * BLOCK)
    if n_targets < _LEAST_TARGETS:
        raise UserError(
            f"The validation set has {n_tokens:,} tokens. At least {2 * _LEAST_TARGETS:,} are "
            "expected to compare contexts.",
            where=where,
        )
    most = n_tokens - n_targets
    if wanted is not None and wanted > most:
        raise UserError(
            f"context_length is {wanted:,}, and the validation set has {n_tokens:,} tokens. With "
            f"{n_targets:,} of them as targets, a context of at most {most:,} is expected.",
            where=where,
            settings={"context_length": most},
        )
    longest = context if wanted is None else wanted
    if longest > most:
        longest = 1 << (most.bit_length() - 1)
    if longest < 2:
        raise UserError("The context is one token. At least two are expected to compare contexts.")
    return n_targets, longest
