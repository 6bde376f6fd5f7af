"""Source words: named texts, datasets and files are resolved in one place."""

from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.text import sources
from groundup.text.builtin import BUILTIN_NAME, python_reference
from groundup.text.read import read_documents
from groundup.text.sources import find_sources


def test_the_built_in_text_is_read_by_its_name() -> None:
    assert list(read_documents([BUILTIN_NAME])) == list(python_reference())
    (source,) = find_sources(BUILTIN_NAME)
    assert source.n_bytes == sum(document.n_bytes for document in python_reference())


def test_a_text_of_the_catalog_is_read_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetched = tmp_path / "texts" / "tiny-shakespeare.txt"
    fetched.parent.mkdir()
    fetched.write_text("First Citizen")
    monkeypatch.setattr(sources, "fetch", lambda text: [fetched])
    (document,) = read_documents(["tiny-shakespeare"])
    assert (document.name, document.text) == ("tiny-shakespeare.txt", "First Citizen")
    Path("tiny-shakespeare").write_text("a file of this name comes first")
    assert find_sources("tiny-shakespeare")[0].place == "tiny-shakespeare"


def test_a_stamp_changes_with_the_file_or_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = find_sources(str(path))[0].stamp
    assert find_sources(str(path))[0].stamp == before
    path.write_text("longer")
    assert find_sources(str(path))[0].stamp != before
    for unknown in ("-", "hf:some/dataset"):
        assert None in find_sources(unknown)[0].stamp


def test_the_stamp_of_a_url_is_unknown() -> None:
    pytest.importorskip("aiohttp", reason="the extra `sources` is not installed")
    assert None in find_sources("https://example.org/a.txt")[0].stamp


def test_a_name_that_is_nearly_right_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(UserError, match=r"Did you mean .*/notes\.txt\? The named texts are pyth"):
        find_sources(str(tmp_path / "note.txt"))
    with pytest.raises(UserError, match=r"Did you mean tiny-shakespeare\?"):
        find_sources("tiny-shakespear")


def test_an_empty_word_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(UserError, match=r"empty string.*current folder, type a dot"):
        find_sources("")
    assert [source.name for source in find_sources(".")] == ["notes.txt"]
