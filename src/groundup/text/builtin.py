"""The text every machine has: Python's own language reference, as shipped with the interpreter.

`pydoc_data.topics` holds about 465 kB of English technical prose in 79 documents (PSF licence).
Its words change a little from one Python version to the next; the run's manifest keeps the hash.
"""

from collections.abc import Iterator

from groundup.text.clean import clean
from groundup.text.documents import Document

BUILTIN_NAME = "python-reference"


def python_reference() -> Iterator[Document]:
    """Give the topics of Python's language reference, one document each, in alphabetical order.

    >>> next(python_reference()).name
    'assert'
    """
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Document(name, clean(topics[name]))
