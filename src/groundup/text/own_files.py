"""Recognize files that groundup wrote: they are never sources of text.

A data folder may be inside the folder that is read, so a scan would find the corpus, the results
and the runs of the last time and make training text of them.
"""

import os
from pathlib import Path
from typing import Any

from groundup.base.dependents import read_table
from groundup.base.run import RUN_CONTENT

PAGE_MARK = b'<meta name="generator" content="groundup">'
"""In the head of every page that groundup writes."""
_PAGE_HEAD_BYTES = 1024
_TOKENIZERS = (("ladder.json",), ("tokenizer.json", "vocabulary.txt"))
"""Files that are together in one folder only if groundup wrote a tokenizer."""
_RUN_FILES = ("config.toml", "metrics.jsonl")
"""Both are in every run folder in which a step was done."""
PIPED_TEXT = Path("story", "stdin.txt")
"""In the run of a story, the text of the user that was piped into it."""
_BESIDE_RESULTS = ("corpus/manifest.json", "data/corpus/manifest.json", "config.toml", "story")


def is_own_folder(folder: Path) -> bool:
    """Whether groundup wrote this folder: a corpus, a store, a tokenizer, results, a run, a story.

    A data folder is not one of them: it may contain texts of the user as well.
    """
    if any(all(os.path.isfile(folder / name) for name in names) for names in _TOKENIZERS):
        return True
    if folder.name == "story" and os.path.isfile(folder / "identity.json"):
        return True
    if folder.name == "results" and any(os.path.exists(folder.parent / n) for n in _BESIDE_RESULTS):
        return True
    manifest = read_table(folder / "manifest.json")
    is_corpus = {"format_version", "sides"} <= manifest.keys()
    is_store = {"format_version", "shards"} <= manifest.keys()
    return is_corpus or is_store or _is_run(folder, manifest)


def is_own(path: Path) -> bool:
    """Whether groundup wrote this file or folder, or what it is inside of.

    A file of the user may be in a run folder, beside what belongs to the run.
    """
    path = path.resolve()
    if path.parts[-2:] == PIPED_TEXT.parts:
        return False
    if is_own_page(path) or is_own_folder(path):
        return True
    for folder in path.parents:
        if _is_run(folder, read_table(folder / "manifest.json")):
            return path.relative_to(folder).parts[0] in RUN_CONTENT
        if is_own_folder(folder):
            return True
    return False


def is_own_page(path: Path) -> bool:
    """Whether this is a page that groundup wrote, such as report.html."""
    if path.suffix.lower() != ".html":
        return False
    try:
        with open(path, "rb") as file:
            return PAGE_MARK in file.read(_PAGE_HEAD_BYTES)
    except OSError:
        return False


def _is_run(folder: Path, manifest: dict[str, Any]) -> bool:
    versions = manifest.get("versions")
    is_described = isinstance(versions, dict) and "groundup" in versions
    return is_described or all(os.path.isfile(folder / name) for name in _RUN_FILES)
