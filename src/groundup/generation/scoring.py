"""The log-probability of continuations of prompts, in few large products without padding.

Prompts that begin alike, such as those with the same examples, share that prefix: its keys and
values are computed once. What follows is packed: the rest of many prompts, each with all of its
continuations, is one sequence, in which each token attends to what comes before it in its own text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.sequences import n_common
from groundup.generation.decoder import Decoder
from groundup.model.delta import DeltaMixer
from groundup.model.state import LayerState

PACKED = 2048
"""Positions that are computed at once; a longer text is computed alone."""
_ROWS_AT_ONCE = 512
"""Queries of a longer text whose mask is made at once."""
_LEAST_SHARED = 16
"""Prompts that have fewer tokens in common do not share them."""
_HEAD_ROWS = 256
"""Logits that are held at once; a row has one for each token of the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Token ids, and several continuations of them."""

    ids: Sequence[int]
    continuations: Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How likely a continuation is."""

    nats: float
    """The log-probability of all its tokens."""
    n_tokens: int
    is_greedy: bool
    """Whether each of its tokens is the most likely one."""


def score(
    decoder: Decoder,
    prompts: Sequence[Prompt],
    *,
    share_prefixes: bool = True,
    n_packed: int = PACKED,
) -> Iterator[tuple[int, list[Likelihood]]]:
    """Compute how likely each continuation is after its prompt.

    Args:
        decoder: Computes the logits.
        prompts: The prompts with their continuations.
        share_prefixes: Compute what several texts begin with once. The results are the same up to
            rounding.
        n_packed: Positions that are computed at once.

    Yields:
        The index of a prompt and the likelihoods of its continuations, as they are computed.

    Raises:
        UserError: A prompt or a continuation has no tokens, or they do not fit in the context.
    """
    for index, prompt in enumerate(prompts):
        _check(decoder, index, prompt)
    if not share_prefixes:
        for index, prompt in enumerate(prompts):
            alone = [_Text(index, prompt.ids, [each], 0) for each in prompt.continuations]
            found = [_forward(decoder, [text], None)[0] for text in alone]
            yield index, [likelihood for each in found for likelihood in each]
        return
    for n_shared, indices in shared_prefixes([prompt.ids for prompt in prompts]):
        prefix = _Prefix(decoder, prompts[indices[0]].ids[:n_shared]) if n_shared else None
        texts = (_Text(i, prompts[i].ids, prompts[i].continuations, n_shared) for i in indices)
        for batch in _batches(texts, n_packed):
            found = _forward(decoder, batch, prefix)
            yield from ((text.index, each) for text, each in zip(batch, found, strict=True))


def shared_prefixes(prompts: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Group prompts by what they begin with.

    Returns:
        The number of tokens that the prompts of a group have in common, or 0, and their indices.
        At least the last token of a prompt is not shared.

    >>> long = list(range(20))
    >>> shared_prefixes([[7, 8], [*long, 1], [*long, 2], [7, 9]])
    [(20, [1, 2]), (0, [0, 3])]
    """
    groups: list[list[int]] = []
    shared: list[list[int]] = []
    # Neighbors in this order have the longest prefixes in common.
    for index in sorted(range(len(prompts)), key=lambda i: list(prompts[i])):
        ids = prompts[index]
        if groups:
            first, before = prompts[groups[-1][0]], prompts[groups[-1][-1]]
            n = min(n_common(before, ids), len(ids) - 1, len(first) - 1)
            # Where much less is in common than before, a new group begins.
            if n >= _LEAST_SHARED and 2 * n >= max(shared[-1], default=0):
                groups[-1].append(index)
                shared[-1].append(n)
                continue
        groups.append([index])
        shared.append([])
    found = [(min(n), indices) for n, indices in zip(shared, groups, strict=True) if n]
    alone = sorted(i for n, (i, *_) in zip(shared, groups, strict=True) if not n)
    return found + ([(0, alone)] if alone else [])


class _Text:
    """One prompt after the shared prefix, followed by its continuations side by side."""

    def __init__(
        self, index: int, ids: Sequence[int], continuations: Sequence[Sequence[int]], n_shared: int
    ) -> None:
        self.index, self.n_shared = index, n_shared
        self.continuations = continuations
        rest = list(ids[n_shared:])
        self.n_rest = len(rest)
        self.ids = rest + [token for each in continuations for token in each[:-1]]
        # 0 for the prompt, then the number of the continuation.
        self.parts = [0] * self.n_rest
        self.positions = list(range(n_shared, n_shared + self.n_rest))
        self.wanted: list[list[int]] = []
        """For each continuation, where the logits of its tokens are."""
        for number, each in enumerate(continuations, 1):
            start = len(self.parts)
            self.parts += [number] * (len(each) - 1)
            self.positions += range(len(ids), len(ids) + len(each) - 1)
            self.wanted.append([self.n_rest - 1, *range(start, len(self.parts))])
        self._prompt = ids

    def before(self, n: int) -> list[list[int]]:
        """The last n ids before each position."""
        ends = range(self.n_shared, self.n_shared + self.n_rest)
        starts = [list(self._prompt[max(0, end - n) : end]) for end in ends]
        for each in self.continuations:
            whole = [*self._prompt[-n:], *each]
            starts += [whole[: len(whole) - len(each) + i] for i in range(len(each) - 1)]
        return [start[-n:] for start in starts]

    def lengths(self) -> list[int]:
        """Number of positions of the prompt after the shared prefix, and of each continuation."""
        return [self.n_rest, *(len(each) - 1 for each in self.continuations)]

    def sees_all_before(self, window: int | None) -> bool:
        """Whether each position sees all positions before it, and there is no prefix."""
        return len(self.continuations) == 1 and not self.n_shared and window is None

    def mask(self, window: int | None, device: torch.device, rows: slice) -> Tensor:
        """Which of the P + n positions each position in `rows` sees, (n rows, P + n)."""
        order = torch.arange(len(self.ids), device=device)
        parts = torch.tensor(self.parts, device=device)
        seen = (order[rows, None] >= order) & ((parts == 0) | (parts[rows, None] == parts))
        seen = torch.cat((seen.new_ones(len(seen), self.n_shared), seen), dim=1)
        if window is not None:
            places = torch.tensor(self.positions, device=device)
            stored = torch.cat((torch.arange(self.n_shared, device=device), places))
            seen &= places[rows, None] - stored < window
        return seen


class _Prefix:
    """The keys and values of ids that several texts begin with."""

    @torch.inference_mode()
    def __init__(self, decoder: Decoder, ids: Sequence[int]) -> None:
        self.keys: dict[int, Tensor] = {}
        """For each layer with attention (G, P, D)."""
        self.values: dict[int, Tensor] = {}
        self.states: dict[int, LayerState] = {}
        """States of the layers with a gated delta rule, by their number."""
        text = _Text(0, ids, [[0]], 0)
        attend = _PackedAttention([text], decoder.windows, None, self)
        decoder.hidden(*_inputs(decoder, [text]), attend)

    def store(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values (G, P, D) of a layer."""
        self.keys[layer], self.values[layer] = keys.clone(), values.clone()


class _PackedAttention:
    """Attention of packed texts, each to the shared prefix and to itself."""

    def __init__(
        self,
        texts: Sequence[_Text],
        windows: Sequence[int | None],
        prefix: _Prefix | None,
        stored: _Prefix | None = None,
    ) -> None:
        self._texts, self._windows = texts, windows
        self._prefix, self._stored = prefix, stored
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (N, H D) for queries (N, H, D), keys and values (N, G, D)."""
        _, H, D = queries.shape
        q, k, v = (x.transpose(0, 1) for x in (queries, keys, values))  # (H or G, N, D)
        if self._stored is not None:
            self._stored.store(layer, k, v)
        mixed = torch.empty_like(queries)
        start = 0
        for number, text in enumerate(self._texts):
            part = slice(start, start := start + len(text.ids))
            own_k, own_v = k[:, part], v[:, part]
            if self._prefix is not None:
                own_k = torch.cat((self._prefix.keys[layer], own_k), dim=1)
                own_v = torch.cat((self._prefix.values[layer], own_v), dim=1)
            for rows, mask in self._blocks(number, text, self._windows[layer], q.device):
                found = F.scaled_dot_product_attention(
                    q[None, :, part][:, :, rows],
                    own_k[None],
                    own_v[None],
                    attn_mask=mask,
                    is_causal=mask is None,
                    enable_gqa=len(k) != H,
                )
                mixed[part][rows] = found[0].transpose(0, 1)
        return mixed.view(len(mixed), H * D)

    def _blocks(
        self, number: int, text: _Text, window: int | None, device: torch.device
    ) -> Iterator[tuple[slice, Tensor | None]]:
        """Yield the rows to compute at once, and their mask, so that no mask has T x T numbers."""
        if text.sees_all_before(window):
            yield slice(None), None
            return
        n = len(text.ids)
        if n <= PACKED:  # the layers have the same mask
            key = number, window
            if key not in self._masks:
                self._masks[key] = text.mask(window, device, slice(None))
            yield slice(None), self._masks[key]
            return
        for first in range(0, n, _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            yield rows, text.mask(window, device, rows)

    def delta(self, layer: int, mixer: DeltaMixer, inputs: Tensor, rates: Tensor) -> Tensor:
        """Return (N, H D) for the inputs (N, 4 H D) and rates (N, 2 H) of a gated delta rule."""
        before = None if self._prefix is None else self._prefix.states[layer]
        mixed, start = [], 0
        for text in self._texts:
            state = before
            for number, length in enumerate(text.lengths()):
                part = slice(start, start := start + length)
                if length:
                    found, after = mixer.mix(inputs[None, part], rates[None, part], state)
                    mixed.append(found[0])
                if not number and length:  # each continuation follows the prompt
                    state = after
            if self._stored is not None and state is not None:
                self._stored.states[layer] = state
        return torch.cat(mixed)


def _batches(texts: Iterator[_Text], n_packed: int) -> Iterator[list[_Text]]:
    batch: list[_Text] = []
    n = 0
    for text in texts:
        if batch and n + len(text.ids) > n_packed:
            yield batch
            batch, n = [], 0
        batch.append(text)
        n += len(text.ids)
    if batch:
        yield batch


def _inputs(
    decoder: Decoder, texts: Sequence[_Text]
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    ids = [[token] for text in texts for token in text.ids]
    n = decoder.config.ngram - 1
    before = [each for text in texts for each in text.before(n)] if n else [[]] * len(ids)
    return ids, before, [position for text in texts for position in text.positions]


@torch.inference_mode()
def _forward(
    decoder: Decoder, texts: Sequence[_Text], prefix: _Prefix | None
) -> list[list[Likelihood]]:
    """Compute the likelihoods of the continuations of each text."""
    attend = _PackedAttention(texts, decoder.windows, prefix)
    x = decoder.hidden(*_inputs(decoder, texts), attend)  # (N, C)
    rows: list[int] = []
    targets: list[int] = []
    start = 0
    for text in texts:
        for wanted, tokens in zip(text.wanted, text.continuations, strict=True):
            rows += [start + row for row in wanted]
            targets += tokens
        start += len(text.ids)
    nats, is_best = _token_nats(decoder, x, rows, targets)
    found: list[list[Likelihood]] = []
    at = 0
    for text in texts:
        found.append([])
        for tokens in text.continuations:
            part = slice(at, at := at + len(tokens))
            found[-1].append(
                Likelihood(
                    nats=float(nats[part].sum()),
                    n_tokens=len(tokens),
                    is_greedy=bool(is_best[part].all()),
                )
            )
    return found


def _token_nats(
    decoder: Decoder, x: Tensor, rows: Sequence[int], targets: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Compute log p of each target after a row of x, and whether it is the most likely token."""
    different = sorted(set(rows))
    order = {row: i for i, row in enumerate(different)}
    place, wanted = torch.tensor([order[row] for row in rows]), torch.tensor(targets)
    nats = torch.empty(len(rows), dtype=torch.float64)
    is_best = torch.empty(len(rows), dtype=torch.bool)
    for first in range(0, len(different), _HEAD_ROWS):
        logits = decoder.logits(x[different[first : first + _HEAD_ROWS]])  # (R, V)
        here = (place >= first) & (place < first + _HEAD_ROWS)
        own = place[here] - first
        nats[here] = (logits[own, wanted[here]] - logits.logsumexp(1)[own]).double()
        is_best[here] = logits.argmax(1)[own] == wanted[here]
    return nats, is_best


def _check(decoder: Decoder, index: int, prompt: Prompt) -> None:
    if not len(prompt.ids) or not all(map(len, prompt.continuations)):
        raise UserError(
            f"Prompt {index} or one of its continuations has no tokens. At least one token of "
            "each is expected."
        )
    n = len(prompt.ids) + max(map(len, prompt.continuations), default=0) - 1
    if n > decoder.config.context_length:
        raise UserError(
            f"Prompt {index} has {n:,} tokens with its longest continuation, and the context of "
            f"the model has {decoder.config.context_length:,}. A shorter prompt is expected."
        )
