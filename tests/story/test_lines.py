"""The classifier of a story: real and shuffled lines, in sets that share nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import read_examples
from groundup.story.lines import REAL, SHUFFLED, first_documents, shuffled_lines, write_lines
from groundup.text.documents import Document
from groundup.text.pieces import Piece

WORDS = (
    *("moon", "rose", "fell", "over", "under", "the", "hill", "and", "dark", "river", "slow"),
    *("boat", "night", "sang", "old", "king", "ship", "went", "home", "again", "with", "bread"),
)


def verse(name: str, first: int, n: int) -> Document:
    lines = [
        " ".join(f"{WORDS[(k + j) % len(WORDS)]}{k * (j + 1)}" for j in range(7))
        for k in range(first, first + n)
    ]
    return Document(name, "\n".join(lines))


def key(text: str) -> tuple[str, ...]:
    return tuple(sorted(text.casefold().split()))


def test_a_line_is_in_one_class_and_a_document_in_one_set(tmp_path: Path) -> None:
    documents = [verse("a", 0, 60), verse("b", 100, 90), verse("c", 1000, 300)]
    rows = shuffled_lines(documents, seed=3)
    assert len({key(row.text) for row in rows}) == len(rows) == 450
    by_document = {key(line): d.name for d in documents for line in d.text.splitlines()}
    sets = {
        part: {by_document[key(r.text)] for r in rows if r.part == part}
        for part in ("train", "test")
    }
    assert sets == {"test": {"a", "b"}, "train": {"c"}}
    lines = {line for d in documents for line in d.text.splitlines()}
    for part in sets:
        labels = [row.label for row in rows if row.part == part]
        assert labels.count(REAL) == labels.count(SHUFFLED) == len(labels) / 2
    assert all((row.text in lines) == (row.label == REAL) for row in rows)
    assert shuffled_lines(documents, seed=3) == rows
    # What is written is what `classify` reads.
    write_lines(rows, tmp_path / "lines.jsonl")
    config = ClassifyConfig(labels=tmp_path / "lines.jsonl", split_column="set")
    examples = read_examples(config)
    assert len(examples.split.test) == 150


def test_one_document_of_prose_is_cut_into_lines_and_parts() -> None:
    text = "\n\n".join(verse("p", k * 50, 20).text.replace("\n", " ") for k in range(20))
    rows = shuffled_lines([Document("one", text)], seed=0)
    assert {row.part for row in rows} == {"train", "test"}
    assert max(len(row.text.split()) for row in rows) <= 16
    assert 0.2 < sum(row.part == "test" for row in rows) / len(rows) < 0.4


@pytest.mark.parametrize("text", ["", "too few words\n" * 99, "the same five words again\n" * 99])
def test_too_little_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="different lines"):
        shuffled_lines([Document("a", text), Document("b", text)], seed=0)


def test_of_a_large_document_the_beginning_is_read() -> None:
    def pieces() -> Iterator[Piece]:
        yield Piece("small", "a" * 9)
        for k in range(3):
            yield Piece("large", "b" * 2_000_000, is_first=k == 0, is_last=False)
        pytest.fail("More was read than is needed.")

    sizes = [(document.name, len(document.text)) for document in first_documents(pieces())]
    assert sizes == [("small", 9), ("large", 6_000_000)]
