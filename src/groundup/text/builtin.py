"""The text every machine has: Python's own language reference, as shipped with the interpreter.

`pydoc_data.topics` holds about 465 kB of English technical prose in 79 topics (PSF licence). Many
topics are excerpts of longer ones ("if" stands whole in "compound"); these are left out, or the
held-out text would have been read in training. Some 370 kB in 57 documents remain; the words
change a little from one Python version to the next, and the run's manifest keeps the hash.
"""

from collections.abc import Iterator

from groundup.text.clean import clean
from groundup.text.documents import Document

BUILTIN_NAME = "python-reference"
_EXCERPT_FRAC = 0.5
_TELLING_CHARACTERS = 30
"""A line this long hardly stands in two topics by chance."""


def python_reference() -> Iterator[Document]:
    """Give the topics of Python's language reference, without excerpts, in alphabetical order.

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
        telling = [line for line in lines if len(line) >= _TELLING_CHARACTERS]
        if sum(line in seen for line in telling) <= _EXCERPT_FRAC * len(telling):
            kept.append(document)
            seen.update(telling)
    yield from sorted(kept, key=lambda document: document.name)
