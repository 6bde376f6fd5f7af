"""Every option that a page of the documentation names exists."""

import re
from pathlib import Path

import pytest

from groundup.base.fields import leaves
from groundup.base.kinds import OptionName
from groundup.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_ALL_COMMANDS = {"help", "version", "verbose", "config", "recipe"}
OF_TORCHRUN = {"standalone", "nnodes", "nproc-per-node", "rdzv-endpoint"}


def options() -> set[str]:
    names = set(OF_ALL_COMMANDS | OF_TORCHRUN)
    for verb in VERBS:
        for leaf in leaves(verb.config_class()).values():
            named = leaf.kind.find(OptionName)
            name = (leaf.name if named is None else named.name).replace("_", "-")
            names |= {name, f"no-{name}"}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_options_of_a_page_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    if page.stem == "nanogpt":
        text = re.sub("^[|][^|]*", "", text, flags=re.M)  # the names of nanoGPT
    named = re.findall(r"`--([a-z0-9-]+)(?=[ `])", text)
    assert not set(named) - options()
