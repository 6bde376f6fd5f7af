"""Pairs as token ids: prompt and answer, with targets for the tokens of the answer only.

Each answer has its own limit. A pair that says nothing, because an answer is empty or both are
equal, and a pair that does not fit the context are left out and counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from groundup.base.errors import UsageError
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import Row
from groundup.records.rows import Pair
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.template import Message

EQUAL, EMPTY = "both answers are equal", "an answer is empty"
EQUAL_WHEN_CUT = "both answers are equal after cutting"
LONG_PROMPT = "the prompt is longer than the context"
TOO_LONG = "prompt and answer are longer than the context"


@dataclass(frozen=True)
class EncodedPair:
    """A pair, and ids with targets for the chosen and the rejected answer."""

    pair: Pair
    rows: tuple[Row, Row]
    number: int
    """Place among all pairs that were read, from 0."""


@dataclass
class LeftOutPairs:
    """How many pairs were left out, for each reason, and the first one."""

    n_read: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count a pair."""
        self.counts[reason] += 1
        self.first.setdefault(reason, where)

    def sentences(self) -> list[str]:
        """Describe the pairs of each reason in one sentence."""
        return [
            f"{n:,} of {self.n_read:,} pairs {'is' if n == 1 else 'are'} left out because {reason} "
            f"(first: {self.first[reason]})."
            for reason, n in self.counts.items()
        ]


def encode_pairs(
    pairs: Sequence[Pair],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    *,
    context_length: int,
    max_answer_tokens: int | None = None,
) -> tuple[list[EncodedPair], LeftOutPairs]:
    """Encode pairs, and leave out those that cannot be trained on.

    Args:
        pairs: The pairs.
        tokenizer: The tokenizer of the model.
        template: Its chat template. None: that of assistants that were fine-tuned here.
        context_length: Number of tokens that the model reads at once.
        max_answer_tokens: Each answer is cut after this many tokens. None: answers are not cut.

    Raises:
        UsageError: Fewer than three pairs are left, one for each of the three sets.
    """
    left_out = LeftOutPairs(n_read=len(pairs))
    encoded = []
    for number, pair in enumerate(pairs):
        reason = _empty_or_equal(pair)
        rows: list[Row] = []
        if not reason:
            rows = [
                answer_row(pair.messages, answer, tokenizer, template, max_answer_tokens)
                for answer in (pair.chosen, pair.rejected)
            ]
            reason = _unfit(rows, context_length)
        if reason:
            left_out.add(reason, pair.where)
        else:
            encoded.append(EncodedPair(pair, (rows[0], rows[1]), number))
    if len(encoded) < 3:
        raise UsageError(
            f"{len(encoded)} of {len(pairs)} pairs can be trained on. At least three are expected: "
            "one for training, one for validation and one for the test. "
            + " ".join(left_out.sentences())
        )
    return encoded, left_out


def answer_row(
    messages: Sequence[Message],
    answer: str,
    tokenizer: Tokenizer,
    template: ChatTemplate | None = None,
    max_answer_tokens: int | None = None,
) -> Row:
    """Encode a conversation that ends with an answer; only this answer has targets.

    Earlier answers of the assistant belong to the prompt. An answer that was cut has no end.
    """
    ids, mask = render_ids([*messages, Message("assistant", answer)], tokenizer, template)
    starts = [i for i, counts in enumerate(mask) if counts and not mask[i - 1]]
    n_answers = 1 + sum(message.role == "assistant" for message in messages)
    # A template may strip an answer of white space until nothing is left.
    start = starts[-1] if len(starts) == n_answers else len(ids)
    stop = start + sum(mask[start:])
    if max_answer_tokens is not None:
        stop = min(stop, start + max_answer_tokens)
    ids = ids[:stop]
    return ids[:-1], [t if i >= start else IGNORE_INDEX for i, t in enumerate(ids[1:], 1)]


def _empty_or_equal(pair: Pair) -> str:
    chosen, rejected = pair.chosen.strip(), pair.rejected.strip()
    if not chosen or not rejected:
        return EMPTY
    return EQUAL if chosen == rejected else ""


def _unfit(rows: Sequence[Row], context_length: int) -> str:
    lengths = [len(ids) for ids, _ in rows]
    n_answer = [sum(t != IGNORE_INDEX for t in targets) for _, targets in rows]
    if not all(n_answer):
        return EMPTY
    if rows[0] == rows[1]:
        return EQUAL_WHEN_CUT
    if any(n - k >= context_length for n, k in zip(lengths, n_answer, strict=True)):
        return LONG_PROMPT
    return TOO_LONG if max(lengths) > context_length else ""
