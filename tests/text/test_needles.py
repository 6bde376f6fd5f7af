"""The built-in text of names and values: what can be predicted, and that `prepare` reads it."""

from pathlib import Path

import pytest

from groundup.text.builtin import BUILTIN_TEXTS
from groundup.text.needles import FILLERS, NAMES, VALUES, needle_documents
from groundup.text.read import read_documents
from groundup.text.sources import find_sources


def test_a_name_has_one_value_in_a_document_and_another_in_the_next():
    assert len({*NAMES, *VALUES}) == 320
    found: dict[str, set[str]] = {}
    n_lines = []
    for document in needle_documents(2**14):
        values: dict[str, str] = {}
        lines = document.text.splitlines()
        n_lines.append(len(lines))
        for line in lines:
            if line not in FILLERS:
                name, value = line.split(" ")
                assert values.setdefault(name, value) == value
                found.setdefault(name, set()).add(value)
    assert set(found) == set(NAMES)
    assert min(map(len, found.values())) > 2
    assert set().union(*found.values()) == set(VALUES)
    assert (min(n_lines), max(n_lines) > 1024) == (8, True)
    # As many lines in short documents as in long ones.
    short = sum(n for n in n_lines if n < 128)
    assert 0.3 < short / sum(n_lines) < 0.7


def test_it_is_read_by_its_name_unless_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BUILTIN_TEXTS, "needles", lambda: needle_documents(100))
    (source,) = find_sources("needles")
    documents = list(needle_documents(100))
    assert list(read_documents("needles")) == documents
    assert source.n_bytes == sum(document.n_bytes for document in documents)
    Path("needles").write_text("a file of this name comes first")
    (document,) = read_documents("needles")
    assert document.text == "a file of this name comes first"
