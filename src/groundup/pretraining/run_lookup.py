"""Find an unfinished run for which settings that were left open are already chosen."""

from collections.abc import Set
from dataclasses import replace

from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.planning.budget import agree
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, with_vocabulary
from groundup.train.run_lookup import stored_settings, taken_names


def chosen_before(config: PretrainConfig, given: Set[str] = frozenset()) -> PretrainConfig | None:
    """Return what a budget already chose for these settings, in an unfinished run."""
    for folder in taken_names(config.out):
        if RunFolder(folder).is_finished:
            continue
        stored = stored_settings(folder, config)
        if stored is not None and agree(stored, config, given):
            return replace(stored, out=config.out)
    return None


def settled_before(config: PretrainConfig, data: Data) -> PretrainConfig | None:
    """Return the settings with what was chosen for those left open, in an unfinished run."""
    left_open = {"compile": "auto", "segment": None}
    left_open = {n: v for n, v in left_open.items() if getattr(config.hardware, n) == v}
    for folder in taken_names(config.out):
        stored = None if RunFolder(folder).is_finished else stored_settings(folder, config)
        if stored is None or not left_open:
            continue
        if replace_settings(stored, out=config.out, **left_open) == with_vocabulary(config, data):
            chosen = {name: getattr(stored.hardware, name) for name in left_open}
            return replace_settings(config, **chosen)
    return None
