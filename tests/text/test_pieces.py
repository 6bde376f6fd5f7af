"""Pieces: nothing is lost, and cutting changes no token of any pattern we know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.text import pieces
from groundup.text.pieces import Piece, cut_into_pieces, safe_cut
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.pretokens import PATTERNS, splitter
from groundup.tokenizer.train_bpe import train_bpe

TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \n\t\r'.,!-1a"),
        st.sampled_from("字か。，」…“\u3000\u3099"),
        st.characters(codec="utf-8"),
    ),
    max_size=80,
)
SAMPLE = "it's 12 o'clock!\n\nshe 'll say -- \t no...\n 3.14 ééé 日本 \n日本。「字，"
TOKENIZERS = {name: train_bpe([SAMPLE * 3], 320, pattern=name) for name in PATTERNS}


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=TEXTS, goal=st.integers(1, 40))
def test_a_safe_cut_changes_no_token(pattern: str, text: str, goal: int) -> None:
    cut = safe_cut(text, goal)
    if cut is None:
        return
    tokenizer = TOKENIZERS[pattern]
    halves = [*tokenizer.encode(text[:cut]), *tokenizer.encode(text[cut:])]
    assert 0 < cut < len(text)
    assert halves == tokenizer.encode(text)
    split = splitter(pattern)
    assert split(text[:cut]) + split(text[cut:]) == split(text)


@given(text=TEXTS, size=st.integers(1, 30), chunk=st.integers(1, 30))
def test_pieces_are_the_text(text: str, size: int, chunk: int) -> None:
    chunks = [text[i : i + chunk] for i in range(0, len(text), chunk)]
    found = list(cut_into_pieces("a", chunks, size))
    assert "".join(piece.text for piece in found) == text
    assert [piece.is_first for piece in found] == [True] + [False] * (len(found) - 1)
    assert [piece.is_last for piece in found] == [False] * (len(found) - 1) + [True]


def test_prose_is_cut_near_the_size_asked_for() -> None:
    found = list(cut_into_pieces("a", ["some words " * 1000], 500))
    assert all(480 <= len(piece.text) <= 500 for piece in found[:-1])


def test_a_large_chunk_is_not_copied_for_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def spy(text: str, goal: int, back_to: int = 0) -> int | None:
        searched.append(len(text))
        return safe_cut(text, goal, back_to)

    monkeypatch.setattr(pieces, "safe_cut", spy)
    assert len(list(cut_into_pieces("a", ["some words " * 100], 50))) > 20
    assert set(searched) == {1100}


def test_a_text_without_a_place_to_cut_is_one_piece() -> None:
    assert list(cut_into_pieces("a", ["ab" * 100] * 50, 64)) == [Piece("a", "ab" * 5000)]


NOVEL = "\u3000\u3000第一章。他说，“天气很好”！\n\n\u3000\u3000第二天，下雨了…… きょうは、雨。"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_chinese_and_japanese_text_is_cut_without_spaces(pattern: str) -> None:
    text = NOVEL.replace(" ", "") * 200
    found = [piece.text for piece in cut_into_pieces("a", [text], 500)]
    assert max(map(len, found)) <= 500
    encode = TOKENIZERS[pattern].encode
    assert [index for part in found for index in encode(part)] == encode(text)
    split = splitter(pattern)
    assert [pretoken for part in found for pretoken in split(part)] == split(text)
    assert fast_encoder(TOKENIZERS[pattern])("".join(found)).tolist() == encode(text)


def test_spaces_come_before_marks() -> None:
    assert safe_cut("他说，天 气，很好", 8) == 4
    assert safe_cut("他说，天气，很好 ab", 2, back_to=2) == 2
    assert safe_cut("他说天气，很好 ab", 2) == 4


def test_a_large_piece_is_announced_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pieces, "_LARGE_PIECE", 1000)
    list(cut_into_pieces("a.txt", ["some words " * 9] * 50, 500))
    assert not caplog.records
    list(cut_into_pieces("a.txt", ["ab" * 100] * 50, 500))
    (record,) = caplog.records
    assert record.getMessage().startswith("a.txt has more than")
