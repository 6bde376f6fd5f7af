"""Which sources a corpus contains already, and with which settings they were read."""

from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.fields import changed_settings
from groundup.base.files import sha256_file
from groundup.text.config import PrepareConfig
from groundup.text.corpus import are_read_alike, prepare_command
from groundup.text.sources import Source

_OPTIONS_SINCE_0_2 = {"format": "auto", "skip_empty": False}
"""Their values in a corpus of version 0.1, whose manifest lacks them."""


_OF_SPLIT = ("validation_frac", "seed")
_OF_READING = ("encoding", "separator", "text_field", "format", "skip_empty")


def options_of(config: PrepareConfig) -> dict[str, Any]:
    """Return what decides the corpus, besides the sources."""
    return {name: getattr(config, name) for name in (*_OF_SPLIT, *_OF_READING, "audit")}


def reading_options(config: PrepareConfig) -> dict[str, Any]:
    """Return what decides how sources are read."""
    return {name: getattr(config, name) for name in _OF_READING}


def check_split(held: dict[str, Any], config: PrepareConfig) -> None:
    """Refuse to append with another split than that of the corpus.

    Args:
        held: The manifest of the corpus.
        config: The settings; defaults stand for those of the corpus.

    Raises:
        UserError: A setting of the split was changed, and differs.
    """
    kept = {name: held["options"][name] for name in _OF_SPLIT}
    for name in changed_settings(config) & kept.keys():
        if getattr(config, name) != kept[name]:
            raise UserError(
                f"The corpus was split with {name}={kept[name]}, and what is appended is split in "
                f"the same way. The value {getattr(config, name)} is another one.",
                where=config.out,
                settings={name: kept[name]},
            )


def is_same(held: dict[str, Any], sources: list[Source], config: PrepareConfig) -> bool:
    """Whether a corpus was made from exactly these sources and settings.

    With `strict`, a corpus that lacks a file of a folder is another one.

    Args:
        held: The manifest of the corpus.
        sources: The sources.
        config: The settings.
    """
    if (config.strict and held.get("unread")) or not are_read_alike(held):
        return False
    stamps = [source.stamp for source in without(sources, held.get("unread", []))]
    known = all(None not in stamp for stamp in stamps)
    held_options = {**_OPTIONS_SINCE_0_2, **held.get("options", {})}
    return known and held.get("stamps") == stamps and held_options == options_of(config)


def without(sources: list[Source], unread: list[Any]) -> list[Source]:
    """Return the sources that were not left out, or have changed since."""
    keys = {(*stamp, changed_ns) for stamp, changed_ns in unread}
    return [s for s in sources if (*s.stamp, s.changed_ns) not in keys]


def hashes_of(sources: list[Source]) -> dict[str, str]:
    """Compute the SHA-256 of each source that is a local file, by its resolved path."""
    return {source.stamp[1]: sha256_file(source.place) for source in sources if _is_file(source)}


def new_sources(held: dict[str, Any], sources: list[Source], config: PrepareConfig) -> list[Source]:
    """Return the sources to append: those that a corpus does not contain, nor left out unchanged.

    A file with another time than the recorded one is compared by its content. With `strict`, what
    was left out is read again.

    Args:
        held: The manifest of the corpus.
        sources: The sources that were named.
        config: The settings.

    Raises:
        UserError: A file that the corpus contains has changed.
    """
    # Without the name, which depends on the word that the file was found by.
    left_out = [] if config.strict else held.get("unread", [])
    unread = {(*stamp[1:], changed_ns) for stamp, changed_ns in left_out}
    stamps = {tuple(stamp[1:]) for stamp in held["stamps"]}
    places = {stamp[1] for stamp in held["stamps"]}
    new = []
    for source in sources:
        stamp = tuple(source.stamp[1:])
        if None not in stamp and ((*stamp, source.changed_ns) in unread or stamp in stamps):
            continue
        if not _is_file(source) or source.stamp[1] not in places:
            new.append(source)
        elif sha256_file(source.place) != held.get("sha256", {}).get(source.stamp[1]):
            raise UserError(
                "The corpus contains this file, which has changed since. An append would add all "
                "of it a second time. Give the new part as a file of its own, or prepare all "
                "sources again without append.",
                where=str(source),
                command=prepare_command(config.out, held),
            )
    return new


def _is_file(source: Source) -> bool:
    """Whether this is a local file that can be read again: a pipe cannot."""
    return source.changed_ns is not None and Path(source.place).is_file()
