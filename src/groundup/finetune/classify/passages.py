"""Labels that come with any text: which document, or which part of it, is this passage from?

The largest documents become the classes. Each is cut into passages of equal length that do not
overlap; every so often a few neighbouring passages are kept for the test. A document that mostly
repeats a larger one is passed over: it would be two names for one text.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from groundup.base.errors import UserError
from groundup.finetune.classify.labels import Labelled, LabelSplit
from groundup.text.documents import Document

logger = logging.getLogger(__name__)

BLOCK = 5
"""So many neighbouring passages go to the test together."""
REPEATED_FRAC = 0.2
"""A document sharing more of its long lines than this with a larger one is passed over."""


def cut_passages(text: str, n_characters: int) -> list[str]:
    """Cut a text into consecutive passages of whole words, each at least `n_characters` long.

    White space becomes single spaces: the layout of a page should not give its name away. The rest
    that is too short for a passage is left out.

    >>> cut_passages("to be or not to be, that is the question!", 13)
    ['to be or not to', 'be, that is the']
    """
    passages: list[str] = []
    words: list[str] = []
    length = -1
    for word in text.split():
        words.append(word)
        length += len(word) + 1
        if length >= n_characters:
            passages.append(" ".join(words))
            words, length = [], -1
    return passages


def passages_by_source(
    documents: Iterable[Document], *, n_classes: int, n_characters: int, test_frac: float
) -> LabelSplit:
    """Passages labelled by their document, equally many of each, split without overlap.

    A text with fewer than `n_classes` long documents is labelled by its parts instead: the largest
    document is cut into `n_classes` consecutive parts, named `part 1`, `part 2`, ...

    Raises:
        UserError: the text is too short to give every class a few passages.
    """
    chosen, enough = _largest_distinct(list(documents), n_classes, 10 * n_characters)
    if enough:
        sources = list(zip(short_names([d.name for d in chosen]), chosen, strict=True))
        cut = {name: cut_passages(document.text, n_characters) for name, document in sources}
        source = "which document is the passage from?"
    else:
        whole = cut_passages(chosen[0].text if chosen else "", n_characters)
        size = len(whole) // n_classes
        cut = {f"part {k + 1}": whole[k * size : (k + 1) * size] for k in range(n_classes)}
        source = "which part of the document is the passage from?"
    n_each = min(len(passages) for passages in cut.values())
    if n_each < 4:
        raise UserError(
            f"the text gives only {n_each} passages of {n_characters} characters per class",
            need=f"at least 4 for each of {n_classes} classes, or a file of labelled texts,",
            type_this="--labels FILE.tsv, or --passage-characters 60 --n-classes 2",
        )
    is_test = kept_for_test(n_each, test_frac)
    train: list[Labelled] = []
    test: list[Labelled] = []
    for name, passages in cut.items():
        for text, tested in zip(passages[:n_each], is_test, strict=True):
            (test if tested else train).append(Labelled(text, name))
    learnt = {example.text for example in train}
    fresh = [example for example in test if example.text not in learnt]
    return LabelSplit(train, fresh, tuple(cut), source, n_duplicates=len(test) - len(fresh))


def kept_for_test(n_passages: int, test_frac: float) -> list[bool]:
    """Which passages are for the test: blocks of neighbours, spread evenly over the document.

    Single passages would leave every test passage between two it was trained on; one block at the
    end would test on a part of the document that speaks of other things than the rest.

    >>> "".join(".T"[tested] for tested in kept_for_test(24, 0.25))
    '.........TTT.........TTT'
    """
    size = max(1, min(BLOCK, n_passages // 8))
    n_blocks = -(-n_passages // size)
    tested = [int((b + 1) * test_frac) > int(b * test_frac) for b in range(n_blocks)]
    if not any(tested):
        tested[-1] = True
    if all(tested):
        tested[0] = False
    return [tested[i // size] for i in range(n_passages)]


def short_names(names: Sequence[str]) -> list[str]:
    """The last part of each name without its ending, where that tells them apart; else the names.

    >>> short_names(["books/emma.txt", "books/persuasion.txt"])
    ['emma', 'persuasion']
    >>> short_names(["a/1.txt", "b/1.txt"])
    ['a/1.txt', 'b/1.txt']
    """
    stems = [PurePath(name.split("#")[-1]).stem or name for name in names]
    return stems if len(set(stems)) == len(names) else list(names)


def _largest_distinct(
    documents: Sequence[Document], n_classes: int, n_characters: int
) -> tuple[list[Document], bool]:
    """The largest documents that do not repeat each other, and whether they suffice."""
    chosen: list[Document] = []
    seen: set[str] = set()
    for document in sorted(documents, key=lambda d: (-len(d.text), d.name)):
        if len(chosen) == n_classes:
            break
        lines = {line.strip() for line in document.text.splitlines() if len(line.strip()) >= 40}
        if lines and len(lines & seen) / len(lines) > REPEATED_FRAC:
            logger.info("%s repeats a larger document; passed over", document.name)
            continue
        chosen.append(document)
        seen |= lines
    enough = len(chosen) == n_classes and len(chosen[-1].text) >= n_characters
    return chosen, enough
