"""Find the runs that were trained on a data folder as it is now."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json

_SIDES = ("train", "validation")


def runs_on(data: Path) -> list[Path]:
    """List the runs, finished or not, that were trained on the present content of a data folder.

    They are looked for in `runs` of the working directory, in `runs` beside the data folder and
    beside its parent, beside and in the data folder, and in the folder that contains it.
    """
    here = data.resolve()
    places = [Path("runs"), here, here.parent, here.parent.parent]
    places += [place / "runs" for place in places[1:]]
    candidates = [here.parent]
    for place in places:
        with suppress(OSError):  # there is none, or it cannot be read
            candidates += sorted(place.iterdir())
    found: dict[Path, Path] = {}
    for run in candidates:
        # Unlike Path.is_file, this is False in a folder that cannot be entered.
        if os.path.isfile(run / "manifest.json") and _stands_on(run, data):
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _stands_on(run: Path, data: Path) -> bool:
    manifest = read_table(run / "manifest.json")
    mix = manifest.get("mix")
    tables = [text for text in mix if isinstance(text, dict)] if isinstance(mix, list) else []
    return any(_is_text_of(run, text, data) for text in tables or [manifest])


def _is_text_of(run: Path, manifest: dict[str, Any], data: Path) -> bool:
    recorded, relative = manifest.get("data"), manifest.get("data_relative_to_run")
    places = [Path(recorded), run.parent.parent / recorded] if isinstance(recorded, str) else []
    places += [run / relative] if isinstance(relative, str) else []
    if not any(place.resolve() == data.resolve() for place in places):
        return False
    texts, sides = manifest.get("corpus_sha256"), read_table(data / "corpus" / "manifest.json")
    if isinstance(texts, dict) and isinstance(sides.get("sides"), dict):
        for side in _SIDES:
            present = sides["sides"].get(side, {}).get("sha256")
            if texts.get(f"{side}.jsonl", present) != present:
                return False
    tokenizer = manifest.get("tokenizer_fingerprint")
    for side in _SIDES:
        present = read_table(data / side / "manifest.json").get("tokenizer_fingerprint", tokenizer)
        if tokenizer is not None and present != tokenizer:
            return False
    return True


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none, or another file."""
    try:
        value = read_json(path)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}
