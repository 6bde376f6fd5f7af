"""The pages of the dialects: their code runs, and what they name exists."""

import re
from pathlib import Path

import pytest

import groundup
from groundup import cs336, nanogpt
from groundup.cli.options import options_of
from groundup.train.config import PretrainConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
PUBLIC: list[str] = groundup.__all__  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["cs336.md", "nanogpt.md"])
def test_the_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize(("page", "dialect"), [("cs336.md", cs336), ("nanogpt.md", nanogpt)])
def test_the_names_exist(page: str, dialect: object) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name in re.findall(r"`groundup\.(\w+)", text):
        assert name in (*PUBLIC, "cs336", "nanogpt"), name
    for name in re.findall(r"`(run_\w+|get_\w+)`", text):
        assert hasattr(dialect, name) or hasattr(nanogpt.GPT, name), name
    if dialect is cs336:
        assert all(f"`{name}" in text or f"cs336.{name}" in text for name in cs336.__all__)


def test_the_options_exist() -> None:
    text = (DOCS / "nanogpt.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|$", text, re.M)
    assert len(rows) > 5
    known = {"--" + name.replace("_", "-") for name in options_of(PretrainConfig)}
    for _, ours in rows:
        assert set(re.findall(r"--[a-z0-9-]+", ours)) <= known, ours
