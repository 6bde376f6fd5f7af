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


def compiled_before(config: PretrainConfig, data: Data) -> PretrainConfig | None:
    """Return the settings with what compile="auto" became in an unfinished run of the same ones."""
    for folder in taken_names(config.out):
        stored = None if RunFolder(folder).is_finished else stored_settings(folder, config)
        if stored is None or config.hardware.compile != "auto":
            continue
        kept = {"out": config.out, "compile": "auto"}
        if replace_settings(stored, **kept) == with_vocabulary(config, data):
            return replace_settings(config, compile=stored.hardware.compile)
    return None
