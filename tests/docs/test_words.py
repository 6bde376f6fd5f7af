"""Words stay true: what README, CONTRIBUTING and design.md name is there, and their code runs."""

import re
import string
import tomllib
from pathlib import Path

import pytest
from small_runs import TEXT, make_data, settings

from groundup.cli.options import options_of
from groundup.cli.verbs import VERBS
from groundup.pretraining.pretrain import pretrain

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(
    p.name for p in (ROOT / "src" / "groundup").iterdir() if (p / "__init__.py").exists()
)
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("docs/design.md", "docs/documents.md", "docs/finetune.md", "docs/preferences.md"),
]
VERB_NAMES = {verb.name for verb in VERBS}
OTHER_WORDS = ("help", "completion")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("The cat sat on the mat and the dog ran over the hill.\n" * 99)
    data = make_data(tmp_path / "texts", TEXT + string.printable)
    pretrain(settings(data, out=tmp_path / "runs" / "story", steps=2))
    blocks = re.findall(r"```python\n(.*?)```", read("README.md"), re.S)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "[' cat sat o', ' sat on']" in printed
    assert len(printed.splitlines()) >= 2


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_there(page: str) -> None:
    text = read(page)
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))
    for verb, rest in re.findall(r"\bgroundup ([a-z-]+)((?: [^`\n#]*)?)", code):
        if verb not in VERB_NAMES:
            assert verb in OTHER_WORDS, f"groundup {verb}"
            continue
        row = next(row for row in VERBS if row.name == verb)
        options = {"--" + name.replace("_", "-") for name in options_of(row.config_class())}
        for option in re.findall(r"(--[a-z-]+)", rest):
            known = options | {"--help", "--recipe", "--config"}
            assert option in known, f"groundup {verb} {option}"
    targets = re.findall(r"^([a-z]+):", read("Makefile"), re.M)
    for target in re.findall(r"\bmake ([a-z]+)\b", code):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_is_there(page: str) -> None:
    text = read(page)
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (folder / link).exists(), link
    for path in re.findall(r"`([a-z_/]+(?:/|\.(?:py|toml|txt|md)))`", text):
        found = [ROOT / path, ROOT / "src" / "groundup" / path]
        if path.split("/")[0] in (*ROOMS, "benchmarks", "recipes", "roadmap", "tests", "docs"):
            assert any(place.exists() for place in found), path


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/design.md"])
def test_every_room_is_named(page: str) -> None:
    missing = [room for room in ROOMS if room not in read(page)]
    assert missing == []


def test_every_verb_is_in_the_road_of_the_readme() -> None:
    missing = [verb for verb in VERB_NAMES if f"`{verb}`" not in read("README.md")]
    assert missing == ["story"] or missing == []


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    names = project["dependencies"] + project["optional-dependencies"]["dev"]
    for name in (re.split(r"[<>=\[ ]", entry)[0] for entry in names):
        assert name in read("docs/design.md"), name


def test_the_numbers_of_the_readme_are_measured() -> None:
    """Every number with a unit in the README's list of results stands in benchmarks/RESULTS.md."""
    results = read("benchmarks/RESULTS.md")
    section = re.search(r"## Results\n(.*?)\n## ", read("README.md"), re.S)
    assert section
    numbers = re.findall(r"\b\d[\d,.]*\d\b|\b\d\b", section[1])
    assert len(numbers) > 5
    for number in numbers:
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", results), number
