"""Streamed text equals the text of all tokens at once, whatever the tokens and the stop strings."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.generation.text_stream import TextStream

TOKENS = [bytes([i]) for i in range(256)]
BYTES = st.lists(
    st.one_of(
        st.sampled_from([b"a", b"b", b"c", "é".encode(), "日".encode(), "😀".encode()]),
        st.binary(min_size=1, max_size=3),
    ),
    max_size=12,
).map(b"".join)
STOPS = st.lists(st.text("abcé日\ufffd", min_size=1, max_size=4), max_size=3)


def pieces(tokens: Sequence[bytes], stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(lambda i: tokens[i], stop=stop)
    return [*(stream.push(i) for i in range(len(tokens))), stream.close()]


def naive(data: bytes, stop: Sequence[str]) -> str:
    """The whole text, up to the leftmost place where a stop string begins."""
    text = data.decode("utf-8", errors="replace")
    return text[: min((text.index(s) for s in stop if s in text), default=len(text))]


def cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    parts, start = [], 0
    for length in lengths:
        parts.append(data[start : start + length])
        start += length
    return [*parts, data[start:]]


@settings(max_examples=100, deadline=None)
@given(data=BYTES, stop=STOPS, lengths=st.lists(st.integers(0, 5), max_size=20))
def test_streamed_is_whole(data: bytes, stop: list[str], lengths: list[int]) -> None:
    assert "".join(pieces(cut(data, lengths), stop)) == naive(data, stop)


@settings(max_examples=100, deadline=None)
@given(data=st.text("ab", max_size=30), stop=st.lists(st.text("ab", min_size=1), max_size=4))
def test_no_piece_holds_what_may_be_part_of_a_stop_string(data: str, stop: list[str]) -> None:
    stream, sent = TextStream(lambda i: data[i].encode(), stop=stop), ""
    for i in range(len(data)):
        sent += stream.push(i)
        assert naive(data.encode(), stop).startswith(sent)
        if stream.stopped:
            assert sent == naive(data[: i + 1].encode(), stop)
            return
    assert sent + stream.close() == naive(data.encode(), stop)


def test_a_character_is_one_piece_and_a_broken_tail_one_mark() -> None:
    smile = [bytes([b]) for b in "😀".encode()]
    assert pieces(smile) == ["", "", "", "😀", ""]
    assert pieces(smile[:3]) == ["", "", "", "\ufffd"]
    assert pieces([*smile[:3], b"a"]) == ["", "", "", "\ufffda", ""]
    assert "".join(pieces([b"\xff", b"\xfe"])) == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (["a gam"], "alpha bet"),
        (["gammas"], "alpha beta gamma"),
        (["ma", "beta"], "alpha "),
        (["beta", "ma"], "alpha "),
        (["beta gamma ray", "gam"], "alpha beta "),  # the longer one never ends
        (["beta gamma", "eta"], "alpha "),  # the longer one begins further left
        (["alpha"], ""),
        (["x"], "alpha beta gamma"),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_the_leftmost_stop_string_wins(stop: list[str], text: str, n: int) -> None:
    data = b"alpha beta gamma"
    parts = [data[i : i + n] for i in range(0, len(data), n)]
    assert "".join(pieces(parts, stop)) == text


def test_what_is_certain_is_sent_at_once() -> None:
    assert pieces([b"al", b"pha b", b"e"], ["beta"]) == ["al", "pha ", "", "be"]
    assert pieces([b"al", b"pha b", b"e"]) == ["al", "pha b", "e", ""]


def test_hidden_tokens_are_no_text() -> None:
    stream = TextStream(lambda i: TOKENS[i], hidden_ids=[65])
    assert [stream.push(i) for i in b"xAy"] == ["x", "", "y"]


@pytest.mark.parametrize("stop", ["", "text", [""], ["a", ""], [b"a"], [None]])
def test_what_is_no_stop_string_is_refused(stop: object) -> None:
    with pytest.raises(UserError, match="stop"):
        TextStream(lambda i: TOKENS[i], stop=stop)  # type: ignore[arg-type]
