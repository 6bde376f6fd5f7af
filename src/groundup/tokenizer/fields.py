"""Read JSON files of others: every field that is read has its type checked, the rest is refused."""

import json
from pathlib import Path
from typing import Any, NoReturn

from groundup.base.errors import UserError


def read_object(path: Path) -> "Fields":
    """Read a JSON file that holds one object.

    Raises:
        UserError: The file cannot be read, is not JSON, or holds something else.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"This file is not valid JSON ({error}).", where=path) from error
    return Fields(value, "", path)


class Fields:
    """An object of a JSON file.

    Args:
        value: What the file has in this place.
        name: Where it is in the file, for messages; "" for the file itself.
        path: The file.
    """

    def __init__(self, value: object, name: str, path: Path) -> None:
        self.name, self.path = name, path
        if not isinstance(value, dict):
            self.refuse(None, value, "An object is expected")
        self._left: dict[str, Any] = dict(value)

    def take(self, key: str, *expected: Any, default: Any = ...) -> Any:
        """Return the value of a key; its type or the value itself is one of `expected`.

        Raises:
            UserError: It is missing and has no default, or it is something else.
        """
        if key not in self._left:
            if default is not ...:
                return default
            raise UserError(f"The field {self._full(key)} is missing.", where=self.path)
        value = self._left.pop(key)
        for kind in expected:
            if kind is int and isinstance(value, bool):
                continue
            if isinstance(value, kind) if isinstance(kind, type) else _same(value, kind):
                return value
        names = [kind.__name__ if isinstance(kind, type) else json.dumps(kind) for kind in expected]
        return self.refuse(key, value, f"{' or '.join(names)} is expected")

    def has(self, key: str) -> bool:
        """Whether a key is there and was not taken."""
        return key in self._left

    def peek(self, key: str) -> Any:
        """Return the value of a key without taking it; None if it is missing."""
        return self._left.get(key)

    def take_object(self, key: str) -> "Fields | None":
        """Return the object of a key; None if it is null or missing."""
        value = self.take(key, object, default=None)
        return None if value is None else Fields(value, self._full(key), self.path)

    def take_objects(self, key: str, default: Any = ...) -> "list[Fields]":
        """Return the list of objects of a key."""
        values = self.take(key, list, default=default)
        return [
            Fields(value, f"{self._full(key)}[{number}]", self.path)
            for number, value in enumerate(values)
        ]

    def take_names(self, key: str, length: int | None = None) -> list[str]:
        """Return the list of different, non-empty strings of a key, of this length each."""
        names = self.take(key, list)
        seen: set[str] = set()
        for number, name in enumerate(names):
            if (
                not isinstance(name, str)
                or not name
                or name in seen
                or length not in (None, len(name))
            ):
                self.refuse(f"{key}[{number}]", name, "A string that occurs once is expected")
            seen.add(name)
        return list(names)

    def take_rest(self, kind: type) -> dict[str, Any]:
        """Return all values that were not taken, which are of one type."""
        rest, self._left = self._left, {}
        for key, value in rest.items():
            if not isinstance(value, kind) or isinstance(value, bool):
                self.refuse(key[:40], value, f"{kind.__name__} is expected")
        return rest

    def refuse(self, key: str | None, value: object, expected: str) -> NoReturn:
        """Raise the error that a field is something else than expected."""
        place = "The file" if not self.name and key is None else f"The field {self._full(key)}"
        shown = json.dumps(value, ensure_ascii=True)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
        raise UserError(f"{place} is {shown}. {expected}.", where=self.path)

    def refuse_others(self) -> None:
        """Refuse every field that was not taken: it may change the ids.

        Raises:
            UserError: There is one.
        """
        for key in self._left:
            raise UserError(
                f"The field {self._full(key)} is not supported: it may change the ids.",
                where=self.path,
            )

    def _full(self, key: str | None) -> str:
        return ".".join(part for part in (self.name, key) if part)


def _same(value: object, other: object) -> bool:
    return type(value) is type(other) and value == other


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:80]!r} occurs twice in one object")
    return found
