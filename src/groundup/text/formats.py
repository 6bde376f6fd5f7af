r"""Recognize the format of a file from its content and its name together.

The suffix of the name states a format; the first bytes must agree with it. Where the name states
nothing (no suffix, an unknown one, standard input), the content decides. If both disagree, nothing
is guessed: the error asks for the setting `format`.
"""

import re
from typing import Any, Literal, get_args

import orjson

from groundup.base.errors import UserError

Format = Literal["text", "jsonl", "json", "csv", "tsv", "tsv-quoted", "tsv-pandas", "parquet"]
"""text: a document; jsonl: one JSON object per line; json: a list of objects; csv; tsv without
quoting; tsv-quoted: tsv with quoting as in csv; tsv-pandas: the same, but text after a closing
quotation mark is kept; parquet."""
AnyFormat = Literal[
    "auto", "text", "jsonl", "json", "csv", "tsv", "tsv-quoted", "tsv-pandas", "parquet"
]
"""A format, or "auto" to recognize it."""
FORMATS: tuple[Format, ...] = get_args(Format)

BINARY_SUFFIXES = frozenset(
    {
        # archives
        ".7z", ".jar", ".rar", ".tar", ".whl", ".zip",
        # documents
        ".doc", ".docx", ".epub", ".pdf", ".ppt", ".pptx", ".xls", ".xlsx",
        # pictures, sound, films, fonts
        ".avi", ".bmp", ".gif", ".ico", ".jpeg", ".jpg", ".mov", ".mp3", ".mp4", ".ogg", ".png",
        ".tif", ".tiff", ".wav", ".webm", ".webp", ".eot", ".ttf", ".woff", ".woff2",
        # programs
        ".class", ".dll", ".dylib", ".exe", ".o", ".pyc", ".so",
        # numbers and weights
        ".bin", ".gguf", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".safetensors",
        ".sqlite",
    }
)  # fmt: skip
"""Suffixes of files that are never text."""
_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".rst": "text",
}
KNOWN_SUFFIXES = frozenset(_BY_SUFFIX) | BINARY_SUFFIXES
"""Suffixes that state what a file is."""
_BINARY_STARTS = {
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a zip archive",
    b"\x7fELF": "a program",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GGUF": "a GGUF model",
    b"Rar!": "a rar archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
}
PARQUET_START = b"PAR1"
_FIRST_KEY = re.compile(r'\s*\{\s*("(?:[^"\\]|\\.)*"\s*:|\}\s*(?:\n|$))')
_LIST_OF_OBJECTS = re.compile(r"\s*\[\s*\{")


def binary_kind(head: bytes) -> str | None:
    """Name the binary format that these first bytes belong to; None if it is not known."""
    if b"\0" not in head and not head.startswith(b"%PDF-1."):  # words may begin like a mark
        return None
    return next((kind for start, kind in _BINARY_STARTS.items() if head.startswith(start)), None)


def format_of(suffix: str, head: str, *, where: str) -> Format:
    """Recognize the format of a text from the suffix of its name and its first characters.

    Args:
        suffix: The suffix in lower case, without that of a compression; empty if there is none.
        head: The beginning of the text, or all of it.
        where: The file, for messages.

    Raises:
        UserError: Name and content disagree.

    >>> format_of(".json", '{"text": "one"}\\n{"text": "two"}\\n', where="a.json.gz")
    'jsonl'
    """
    named, found = _BY_SUFFIX.get(suffix), _content_of(head)
    if named == "json":
        if found in ("json", "jsonl"):
            return found
        if head.lstrip().startswith("["):
            return "json"  # its elements are refused one by one, by number
        what = "one JSON object" if found == "object" else "neither a JSON list nor JSON lines"
        raise UserError(
            f"The name ends in .json, but the content is {what}. A list of objects, or one object "
            "per line, is expected. The format 'text' reads the file as one document.",
            where=where,
            settings={"format": "text"},
        )
    if named in (None, "text", "csv", "tsv") and found in ("json", "jsonl"):
        if named is None:
            return found
        kind = "a JSON list" if found == "json" else "one JSON object per line"
        raise UserError(
            f"The name ends in {suffix}, but the content is {kind}. Choose the format: {found!r} "
            f"reads the records, {named!r} follows the name.",
            where=where,
            settings={"format": found},
        )
    if named is None and found == "object":
        raise UserError(
            "The content begins with a JSON object, but it is neither one object per line nor a "
            "list. Choose the format.",
            where=where,
            settings={"format": "jsonl"},
        )
    if named == "jsonl" and found == "json":
        raise UserError(
            f"The name ends in {suffix}, but the content is a JSON list. Choose the format.",
            where=where,
            settings={"format": "json"},
        )
    return named or "text"


def _content_of(head: str) -> Literal["jsonl", "json", "object", "other"]:
    """Find what the beginning of a text looks like."""
    if _LIST_OF_OBJECTS.match(head):
        return "json"
    if not _FIRST_KEY.match(head):
        return "other"
    *lines, rest = head.split("\n")
    first, *others = [line for line in (*lines, rest) if line.strip()]
    if not others and rest.strip():  # one long line, or the only one: the parser will decide
        return "jsonl"
    complete = [first, *(line for line in others[:1] if line is not rest)]
    return "jsonl" if all(isinstance(_parsed(line), dict) for line in complete) else "object"


def _parsed(line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
