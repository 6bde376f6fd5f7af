"""A text that can be predicted only by looking far back: names with values that come again.

A line of a document is a name and its value, "bako tiru", or a sentence that tells nothing. In one
document a name always has the same value; in the next document it has another. So the value of a
name that came before can be predicted, by finding the name, however far back it is. A model that is
trained on this text learns to look back, and `groundup evaluate RUN --needle` measures how far.

Source: "Zoology: Measuring and Improving Recall in Efficient Language Models", section 4, where the
task is called multi-query associative recall.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from groundup.text.documents import Document

NEEDLES_NAME = "needles"
_SYLLABLES = [a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou")]
_WORDS = random.Random(0).sample([a + b for a, b in itertools.product(_SYLLABLES, repeat=2)], 320)
NAMES, VALUES = tuple(_WORDS[:256]), tuple(_WORDS[256:])
FILLERS = ("the grass is green", "the sky is blue", "the sun is warm")
_PAIRS_FRAC = 0.7
"""Share of the lines that have a name and a value."""
_LEAST_LINES, _MOST_LINES = 8, 2048
_N_LINES = 2**19
"""Lines of the text that is prepared."""


def lines(names: Sequence[str], values: Mapping[str, str], draw: random.Random) -> Iterator[str]:
    """Draw lines without end: names of `names` with their values, and sentences.

    >>> some = lines(["bako"], {"bako": "tiru"}, random.Random(1))
    >>> [next(some) for _ in range(4)]
    ['bako tiru', 'bako tiru', 'the sky is blue', 'bako tiru']
    """
    while True:
        if names and draw.random() < _PAIRS_FRAC:
            name = draw.choice(names)
            yield f"{name} {values[name]}"
        else:
            yield draw.choice(FILLERS)


def draw_values(draw: random.Random) -> dict[str, str]:
    """Draw the value of each name.

    >>> len(draw_values(random.Random(0)))
    256
    """
    return {name: draw.choice(VALUES) for name in NAMES}


def needle_documents(n_lines: int = _N_LINES, seed: int = 0) -> Iterator[Document]:
    """Make documents of 8 to 2,048 lines, short and long ones with about as many lines in all.

    Short documents have few names, and are learned first; what is learned there serves in the
    long ones.

    Args:
        n_lines: Number of lines at which no further document begins.
        seed: The random seed.

    >>> next(needle_documents()).text.splitlines()[:2]
    ['bini buso', 'fenu bufi']
    """
    draw = random.Random(seed)
    n_written = 0
    for number in itertools.count():
        if n_written >= n_lines:
            return
        # A density of 1 / n, from a uniform number, gives each length the same number of lines.
        n = round(1 / draw.uniform(1 / _MOST_LINES, 1 / _LEAST_LINES))
        n_names = round(math.exp(draw.uniform(math.log(2), math.log(max(3, min(n, len(NAMES)))))))
        values = draw_values(draw)
        text = itertools.islice(lines(draw.sample(NAMES, n_names), values, draw), n)
        yield Document(f"{NEEDLES_NAME}-{number:06}", "".join(f"{line}\n" for line in text))
        n_written += n
