"""What was said in a chat, and how it is saved: as records for `instruct`, and as readable text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import write_text
from groundup.base.free_name import free_file_name
from groundup.base.writable import why_not_writable

_RECORDS, _TEXT = ".jsonl", ".txt"


@dataclass(frozen=True)
class Exchange:
    """A message and its answer."""

    asker: str
    """The name of who wrote the message."""
    question: str
    answerer: str
    answer: str


def save(name: str, exchanges: Sequence[Exchange], system: str | None = None) -> list[Path]:
    """Write a conversation to a new file.

    NAME.jsonl has one record with messages, which `instruct` reads. NAME.txt is text to read. A
    name without a suffix means both.

    Args:
        name: The path of the file.
        exchanges: What was said.
        system: The system message.

    Returns:
        The files.

    Raises:
        UserError: There is nothing to save, the suffix is another one, a file exists already, or it
            cannot be written.
    """
    if not exchanges:
        raise UserError("Nothing was answered yet, so there is nothing to save.")
    try:
        files = _free_files(name)
        for file in files:
            as_file = _record(exchanges, system) if file.suffix == _RECORDS else _text(exchanges)
            write_text(file, as_file)
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # ~ of an unknown user, a name too long
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{name} cannot be used as a file ({reason}). Type another name."
        ) from error
    return files


def _free_files(name: str) -> list[Path]:
    """Return the files of a name, which do not exist and can be written."""
    path = Path(name).expanduser()
    if path.suffix not in ("", _RECORDS, _TEXT):
        raise UserError(
            f"The name ends in {path.suffix}. {_RECORDS} for records, {_TEXT} for text, or no "
            "suffix for both is expected."
        )
    files = [path] if path.suffix else [Path(f"{path}{_RECORDS}"), Path(f"{path}{_TEXT}")]
    for file in files:
        if file.exists():
            free = free_file_name(file)
            raise UserError(
                f"This exists already. Choose another name, for example "
                f"{free if path.suffix else free.with_suffix('')}.",
                where=file,
            )
    reason = why_not_writable(path.absolute().parent)
    if reason is not None:
        raise UserError(f"No file can be written here ({reason}).", where=path.parent)
    return files


def _record(exchanges: Sequence[Exchange], system: str | None) -> str:
    """One line of JSON. A record without an answer would be refused, so these are left out."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for exchange in exchanges:
        if exchange.answer.strip():
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.answer})
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def _text(exchanges: Sequence[Exchange]) -> str:
    return "\n".join(
        f"{each.asker}:\n{each.question}\n\n{each.answerer}:\n{each.answer.strip()}\n"
        for each in exchanges
    )
