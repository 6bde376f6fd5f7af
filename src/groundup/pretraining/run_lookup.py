"""Find an unfinished run for which a budget has already chosen the settings."""

from collections.abc import Set
from dataclasses import replace

from groundup.base.run import RunFolder
from groundup.planning.budget import agree
from groundup.train.config import PretrainConfig
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
