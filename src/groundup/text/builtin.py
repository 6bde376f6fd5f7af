"""A text that every machine has: Python's own language reference, shipped with the interpreter.

`pydoc_data.topics` contains about 465 kB of English technical prose in 79 topics (PSF license).
Many topics are excerpts of longer ones ("if" is part of "compound"); these are left out, otherwise
the validation set would repeat the training set. Some 370 kB in 57 documents remain. The text
changes a little from one Python version to the next; the run's manifest records its hash.
"""

from collections.abc import Callable, Iterator

from groundup.text.documents import Document, clean
from groundup.text.needles import NEEDLES_NAME, needle_documents

BUILTIN_NAME = "python-reference"
_EXCERPT_FRAC = 0.5
_DISTINCT_CHARACTERS = 30
"""A line this long rarely occurs in two topics by coincidence."""


def python_reference() -> Iterator[Document]:
    """Read the topics of Python's language reference in alphabetical order, without excerpts.

    >>> next(python_reference()).name
    'assert'
    >>> "if" in {document.name for document in python_reference()}
    False
    """
    from pydoc_data.topics import topics

    documents = [Document(name, clean(text)) for name, text in topics.items()]
    documents.sort(key=lambda document: (-len(document.text), document.name))
    kept: list[Document] = []
    seen: set[str] = set()
    for document in documents:
        lines = [line.strip() for line in document.text.splitlines()]
        distinct = [line for line in lines if len(line) >= _DISTINCT_CHARACTERS]
        if sum(line in seen for line in distinct) <= _EXCERPT_FRAC * len(distinct):
            kept.append(document)
            seen.update(distinct)
    yield from sorted(kept, key=lambda document: document.name)


BUILTIN_TEXTS: dict[str, Callable[[], Iterator[Document]]] = {
    BUILTIN_NAME: python_reference,
    NEEDLES_NAME: needle_documents,
}
"""The texts that need no file, by name."""
