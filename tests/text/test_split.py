"""The split: by the hash of each document, so it is stable when others are added or moved."""

import json
import random
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.text.builtin import python_reference
from groundup.text.documents import Document
from groundup.text.prepare import prepare
from groundup.text.split import split_documents


def some(n: int) -> list[Document]:
    rng = random.Random(7)
    return [Document(f"d{i}", f"text {i} " * rng.randint(5, 20)) for i in range(n)]


def test_a_side_depends_on_the_text_alone() -> None:
    documents = some(400)
    first = split_documents(documents[:300])
    assert first.rule == "by document"
    shuffled = documents[:]
    random.Random(1).shuffle(shuffled)
    renamed = [Document("x" + d.name, d.text) for d in shuffled]
    second = split_documents(renamed)
    validation = {d.text for d in first.validation}
    assert validation <= {d.text for d in second.validation}
    assert {d.text for d in first.train} <= {d.text for d in second.train}


def test_the_share_is_about_what_was_asked_and_nothing_is_lost() -> None:
    documents = some(5000)
    split = split_documents(documents, validation_frac=0.2, seed=3)
    assert len(split.validation) == pytest.approx(1000, abs=4 * (5000 * 0.2 * 0.8) ** 0.5)
    together = sorted(d.name for d in [*split.train, *split.validation])
    assert together == sorted(d.name for d in documents)


def test_seeds_differ() -> None:
    documents = some(200)
    sides = [{d.name for d in split_documents(documents, seed=s).validation} for s in (1, 2)]
    assert sides[0] != sides[1]


def test_a_single_text_is_cut_at_a_paragraph() -> None:
    text = "\n\n".join(f"Paragraph {i} says something." for i in range(100))
    split = split_documents([Document("book", text)])
    assert split.rule == "by last part"
    head, tail = split.train[0].text, split.validation[0].text
    assert head + tail == text
    assert head.endswith("\n\n")
    assert len(tail) / len(text) == pytest.approx(0.1, abs=0.05)


def test_few_documents_of_unlike_length_are_cut_instead() -> None:
    documents = [*some(20), Document("huge", "word " * 100_000)]
    split = split_documents(documents)
    assert split.rule == "by last part"
    assert len(split.validation) == 21


def test_the_built_in_text_splits_by_document_into_a_fair_share() -> None:
    documents = list(python_reference())
    split = split_documents(documents, seed=1)
    share = sum(len(d.text) for d in split.validation) / sum(len(d.text) for d in documents)
    assert 0.05 <= share <= 0.2


@pytest.mark.parametrize("frac", [0.0, 1.0, -0.1, 7.0])
def test_a_share_is_between_0_and_1(frac: float) -> None:
    with pytest.raises(UserError, match=r"validation_frac=0\.1"):
        split_documents(some(20), validation_frac=frac)


def test_a_text_too_short_to_split() -> None:
    with pytest.raises(UserError, match="A longer text, or another fraction, is expected"):
        split_documents([Document("a", "x")])


@pytest.mark.parametrize("n", [1200, 200])
def test_a_side_that_one_long_document_makes_small_is_stated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, n: int
) -> None:
    notes = [{"text": f"note {k} is about number {k * k}. " * 3} for k in range(n)]
    for longer, is_stated in ((1, False), (5 * n, n > 1000)):
        rows = [*notes, {"text": "A long text of words. " * longer}]
        path = tmp_path / f"{longer}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        result = prepare(str(path), out=tmp_path / f"data-{longer}", audit=False)
        stated = [message for message in caplog.messages if "The validation set has" in message]
        assert bool(stated) is is_stated
    if is_stated:
        frac = result.validation.n_characters / (
            result.validation.n_characters + result.train.n_characters
        )
        assert f"has {100 * frac:.1f}% of the text, where 10.0% was asked for" in stated[0]
        assert f"{5 * n}.jsonl:{n + 1}" in stated[0]
        assert "another seed, for example 2" in stated[0]
