"""The ids at which texts begin and end, as the files of Hugging Face name them.

config.json and generation_config.json each may have bos_token_id, eos_token_id (one id or a list)
and pad_token_id. A run keeps both files' entries in its manifest, so that generation stops at the
same ids, and an export writes what was imported.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json

_log = logging.getLogger(__name__)

NAMES = ("bos_token_id", "eos_token_id", "pad_token_id")
MANIFEST_KEY = "special_ids"
_NOT_KEPT = ("transformers_version", "_from_model_config")


@dataclass(frozen=True, kw_only=True)
class SpecialIds:
    """What the two files say; empty for a model that was not imported."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """The three entries of config.json."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """All entries of generation_config.json, also the sampling settings."""

    @property
    def eos(self) -> tuple[int, ...]:
        """Ids that end a text: those of generation_config.json, then those of config.json.

        >>> SpecialIds(config={"eos_token_id": 7}, generation={"eos_token_id": [9, 7]}).eos
        (9, 7)
        """
        return self._ids("eos_token_id")

    @property
    def bos(self) -> int | None:
        """The id that begins a text. None: there is none."""
        return next(iter(self._ids("bos_token_id")), None)

    def _ids(self, name: str) -> tuple[int, ...]:
        ids = as_ids(self.generation.get(name)) + as_ids(self.config.get(name))
        return tuple(dict.fromkeys(ids))

    def to_manifest(self) -> dict[str, Any]:
        """Build the entry of a manifest; empty if there is nothing to keep."""
        entry = {"config": dict(self.config), "generation_config": dict(self.generation)}
        return {MANIFEST_KEY: entry} if any(entry.values()) else {}

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any], where: str | Path) -> "SpecialIds":
        """Read the entry of a manifest.

        Raises:
            UserError: An entry is not an id.
        """
        entry = manifest.get(MANIFEST_KEY)
        entry = entry if isinstance(entry, dict) else {}
        return _checked(entry.get("config"), entry.get("generation_config"), where, where)


def one_end(end_of_text_id: int | None) -> SpecialIds:
    """Use one id for all purposes, as the models that are trained here do."""
    ends = {"bos_token_id": end_of_text_id, "eos_token_id": end_of_text_id}
    return SpecialIds(config=ends, generation={**ends, "pad_token_id": end_of_text_id})


def read_special_ids(folder: Path) -> SpecialIds:
    """Read the ids from config.json and generation_config.json of a Hugging Face folder.

    Raises:
        UserError: A file is not a JSON object, or an entry is not an id.
    """
    config, generation = folder / "config.json", folder / "generation_config.json"
    about = read_json(config)
    if not isinstance(about, dict):
        raise UserError("This is not a JSON object with settings.", where=config)
    extra = read_json(generation) if generation.is_file() else {}
    if not isinstance(extra, dict):
        raise UserError("This is not a JSON object with settings.", where=generation)
    ids = {name: about[name] for name in NAMES if name in about}
    kept = {name: value for name, value in extra.items() if name not in _NOT_KEPT}
    return _checked(ids, kept, config, generation)


def warn_of_absent_ids(ids: SpecialIds, n_ids: int) -> None:
    """Log a warning if no end of text is in the vocabulary, so that the model never stops."""
    if ids.eos and min(ids.eos) >= n_ids:
        _log.warning(
            "eos_token_id is %s, and the vocabulary has %d tokens: this id never ends a text",
            ", ".join(map(str, ids.eos)),
            n_ids,
        )


def as_ids(value: Any) -> list[Any]:
    """List the ids of an entry: none, one, or several.

    >>> as_ids(None), as_ids(5), as_ids([5, 6])
    ([], [5], [5, 6])
    """
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _checked(
    config: Any, generation: Any, config_place: str | Path, generation_place: str | Path
) -> SpecialIds:
    both = ((config, config_place), (generation, generation_place))
    for entries, where in both:
        for name in NAMES if isinstance(entries, dict) else ():
            ids = as_ids(entries.get(name))
            if not all(type(each) is int for each in ids):
                raise UserError(
                    f"{name} is {entries[name]!r}. A token id or a list of token ids is expected.",
                    where=where,
                )
    return SpecialIds(
        config=config if isinstance(config, dict) else {},
        generation=generation if isinstance(generation, dict) else {},
    )
