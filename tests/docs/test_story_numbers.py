"""README, RESULTS.md and the picture show one run of the story, with the settings of today.

After a change of the settings, run on an idle machine: python benchmarks/bench_story.py --write
"""

import html
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "run: python benchmarks/bench_story.py --write"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_story", ROOT / "benchmarks/bench_story.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record(bench: ModuleType) -> Any:
    return json.loads(bench.RECORD.read_text("utf-8"))


def test_the_pages_show_the_recorded_run(bench: ModuleType, record: Any) -> None:
    for page, maker in bench.PAGES.items():
        text = (ROOT / page).read_text("utf-8")
        assert text == bench.with_numbers(text, maker, record), f"{page}; {AGAIN}"
    assert "minutes on a laptop" in (ROOT / "README.md").read_text("utf-8")


def test_the_picture_shows_what_the_story_prints_today(bench: ModuleType, record: Any) -> None:
    drawn = re.findall(r"<text [^>]*>(.*?)</text>", bench.PICTURE.read_text("utf-8"))
    shown = {html.unescape(text).replace("\xa0", " ").strip() for text in drawn}
    for line in bench.picture_lines(bench.ending_of(record["ending"])):
        assert not line or line.strip() in shown, f"{line!r}; {AGAIN}"


def test_the_recorded_run_has_the_settings_of_today(bench: ModuleType, record: Any) -> None:
    """A setting that was added since then does not change the numbers at its default."""
    assert _differing(record["settings"], bench.settings()) == [], AGAIN


def test_the_recorded_run_keeps_the_promises_of_a_story(bench: ModuleType, record: Any) -> None:
    ending = bench.ending_of(record["ending"])
    assert ending.n_passes <= bench.MAX_PASSES
    assert record["best_step"] == record["steps"]
    assert ending.gain_frac >= 0.1
    assert ending.classifier["n_right"] > ending.classifier["n_right_baseline"]


def _differing(recorded: Any, present: Any, name: str = "settings") -> list[str]:
    if not isinstance(recorded, dict):
        return [] if recorded == present else [f"{name}: {recorded!r}, now {present!r}"]
    if not isinstance(present, dict):
        return [name]
    return [
        found
        for key, value in recorded.items()
        for found in _differing(value, present.get(key), f"{name}.{key}")
    ]
