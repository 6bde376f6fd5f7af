"""Retrieval from a long text: the value of a name that was given once, at ten depths.

The text is that of `groundup prepare needles`: lines with a name and its value, and sentences. Some
names stand once, near one of ten depths; at the end of the text they come again, in any order, and
the model is to tell their values. A model whose layers all have a window cannot see further back
than their windows added up: there its recall is that of guessing.

Source: "RULER: What's the Real Context Size of Your Long-Context Language Models?", section 3.1,
for the retrieval of several values.
"""

import functools
import logging
import random
from dataclasses import dataclass

import numpy as np

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UsageError, UserError
from groundup.base.folder_kinds import find_run
from groundup.base.results import record_if_possible
from groundup.base.run import RunFolder
from groundup.base.sequences import n_common
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.load import load
from groundup.evaluation.reading import let_read, read_to_the_end
from groundup.generation.decoder import Decoder
from groundup.text.needles import FILLERS, NAMES, VALUES, draw_values, lines
from groundup.tokenizer.protocol import Tokenizer

_log = logging.getLogger(__name__)

N_DEPTHS = 10
_PER_DEPTH = 50
"""Values to tell at each depth, in all texts."""
_MOST_AT_ONCE = 10
"""Values at each depth of one text; most names must be left for the other lines."""
_TOKENS_PER_NAME = 400
"""Tokens of a text for each name that it asks for, so that the questions are a small part."""


@dataclass(frozen=True, kw_only=True)
class DepthRecall:
    """The recall at one depth."""

    depth_frac: float
    """Where the name stood: 0 is the beginning of the text, 1 its end."""
    n_back: int
    """Tokens between the two places of the name, on average."""
    recall: Share
    """Values of which the model predicts every token."""


@dataclass(frozen=True, kw_only=True)
class NeedleRecall:
    """What a model retrieves from texts of one length."""

    checkpoint: str
    n_tokens: int
    """Length of a text, with the questions at its end."""
    context_length: int
    """Context length of the model as it was trained."""
    depths: tuple[DepthRecall, ...]
    """From the beginning of the text to its end."""

    @property
    def chance(self) -> float:
        """The recall of guessing one of the values."""
        return 1 / len(VALUES)

    @property
    def n_found(self) -> int:
        """Number of depths at which the recall is clearly above chance."""
        return sum(each.recall.low > self.chance for each in self.depths)


@takes_settings(EvaluateConfig, "run")
def measure_needle(config: EvaluateConfig) -> NeedleRecall:
    """Measure what a model retrieves, and write RUN/evaluation/needle-TOKENS.json if possible.

    Raises:
        UserError: There is no model, it cannot read as many tokens, or they are too few.
    """
    if config.needle is None:
        raise UsageError(
            "needle is not given. The number of tokens of a text is expected.",
            settings={"needle": 8192},
        )
    path = find_run(config.run)
    run = RunFolder.of(path)
    language_model = load(path)
    model = language_model.model.to(choose_device(config.device))
    trained = model.config.context_length
    let_read(model, config.needle, setting="needle")
    form = form_of(config.dtype, config.quantize)
    decoder = decoder_of(model, language_model.path, form=form)
    result = NeedleRecall(
        checkpoint=language_model.path.name,
        n_tokens=config.needle,
        context_length=trained,
        depths=needle_recall(decoder, language_model.tokenizer, config.needle),
    )
    record_if_possible(
        run.evaluation / f"needle-{config.needle}.json",
        {**vars(result), "chance": result.chance, "n_found": result.n_found},
    )
    return result


def needle_recall(
    decoder: Decoder,
    tokenizer: Tokenizer,
    n_tokens: int,
    *,
    per_depth: int = _PER_DEPTH,
    seed: int = 0,
) -> tuple[DepthRecall, ...]:
    """Compute the recall at ten depths of texts of `n_tokens` tokens.

    Args:
        decoder: Computes the logits.
        tokenizer: Encodes the lines of the text.
        n_tokens: Length of a text, with the questions.
        per_depth: Values to tell at each depth.
        seed: The random seed of the texts.

    Raises:
        UserError: The text is too short for its lines and questions, or the tokenizer does not know
            their letters.
    """
    if len({tuple(tokenizer.encode(f" {value}")) for value in VALUES}) < len(VALUES):
        raise UserError(
            "The tokenizer of this model encodes different values of this text in the same way, as "
            "unknown words. A tokenizer that knows their letters is expected.",
            command="groundup prepare needles --out data/needles",
        )
    most = min(_MOST_AT_ONCE, per_depth)
    at_once = max(1, min(most, n_tokens // (N_DEPTHS * _TOKENS_PER_NAME)))
    least = _least_tokens(tokenizer, N_DEPTHS * at_once)
    if least > n_tokens:
        raise UserError(
            f"needle is {n_tokens:,}. A text of at least {least:,} tokens is expected with the "
            "tokenizer of this model.",
            settings={"needle": least},
        )
    n_texts = -(-per_depth // at_once)
    draw = random.Random(seed)
    right = np.zeros(N_DEPTHS, dtype=np.int64)
    back = np.zeros(N_DEPTHS)
    for number in range(n_texts):
        _log.info("text %d of %d", number + 1, n_texts)
        text = needle_text(tokenizer, n_tokens, at_once, draw)
        n = len(text.ids) - text.questions[0].start
        is_best = read_to_the_end(decoder, text.ids, n).is_best
        for question in text.questions:
            answer = slice(question.start + n - len(text.ids), question.stop + n - len(text.ids))
            right[question.depth] += bool(is_best[answer].all())
            back[question.depth] += question.n_back
    return tuple(
        DepthRecall(
            depth_frac=(depth + 0.5) / N_DEPTHS,
            n_back=round(back[depth] / (n_texts * at_once)),
            recall=wilson(int(right[depth]), n_texts * at_once),
        )
        for depth in range(N_DEPTHS)
    )


@dataclass(frozen=True, kw_only=True)
class Question:
    """A name at the end of a text, and its value."""

    depth: int
    """Which of the ten depths the name stood at."""
    start: int
    """Where the value stands."""
    stop: int
    n_back: int
    """Tokens between the two places of the name."""


@dataclass(frozen=True, kw_only=True)
class NeedleText:
    """The ids of a text, and the questions at its end."""

    ids: list[int]
    questions: list[Question]


def needle_text(
    tokenizer: Tokenizer, n_tokens: int, at_once: int, draw: random.Random
) -> NeedleText:
    """Make a text of at most `n_tokens` tokens, a few less where no line fits in the rest.

    Args:
        tokenizer: Encodes the lines.
        n_tokens: Length of the text, which has room for all of it.
        at_once: Names at each depth.
        draw: Draws the names, the values and the lines.

    """
    encode = functools.cache(lambda line: tokenizer.encode(line + "\n"))
    values = draw_values(draw)
    asked = draw.sample(NAMES, N_DEPTHS * at_once)
    others = [name for name in NAMES if name not in set(asked)]
    pairs = {name: f"{name} {values[name]}" for name in asked}
    ids = list(getattr(tokenizer, "begin_ids", []))
    stop = n_tokens - sum(len(encode(pair)) for pair in pairs.values())
    planted: dict[str, int] = {}
    for line in lines(others, values, draw):
        n = len(planted)
        is_due = n < len(asked) and len(ids) >= stop * (n + 0.5) / len(asked)
        if is_due:
            line = pairs[asked[n]]
        if len(ids) + len(encode(line)) > stop:
            break
        if is_due:
            planted[asked[n]] = len(ids)
        ids.extend(encode(line))
    assert len(planted) == len(asked), "`_least_tokens` leaves room for all"
    questions = []
    for name in draw.sample(asked, len(asked)):
        pair = pairs[name]
        first, end = (n_common(encode(pair), tokenizer.encode(part)) for part in (name, pair))
        questions.append(
            Question(
                depth=asked.index(name) // at_once,
                start=len(ids) + first,
                stop=len(ids) + end,
                n_back=len(ids) - planted[name],
            )
        )
        ids.extend(encode(pair))
    return NeedleText(ids=ids, questions=questions)


def _least_tokens(tokenizer: Tokenizer, n_asked: int) -> int:
    """Tokens of the shortest text with room for this many names, whichever lines are drawn.

    The last name is due where 1 / (2 n_asked) of the text is left, up to one line later.
    """
    n_name = max(len(tokenizer.encode(name)) for name in NAMES)
    n_value = max(len(tokenizer.encode(f" {value}\n")) for value in VALUES)
    n_line = max(n_name + n_value, *(len(tokenizer.encode(f"{line}\n")) for line in FILLERS))
    return n_asked * (n_name + n_value) + 2 * n_asked * 2 * n_line
