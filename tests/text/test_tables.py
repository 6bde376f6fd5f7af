"""Tables: rows of another width and open quotation marks are named with their line."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import peer

from groundup.base.errors import UserError
from groundup.text.left_out import LeftOut
from groundup.text.tables import TableFormat, read_table


def rows(
    text: str, format: TableFormat = "csv", left_out: LeftOut | None = None
) -> list[tuple[int, list[str]]]:
    table = read_table([text], format, where="t", left_out=left_out)
    return list(table.rows)


def test_rows_have_the_number_of_their_first_line() -> None:
    assert rows('a,b\n1,"x\ny"\n\n2,z\n') == [(2, ["1", "x\ny"]), (5, ["2", "z"])]
    assert rows("a\tb\r\n1\tx\r\n\r\n2\tz\r\n", "tsv") == [(2, ["1", "x"]), (4, ["2", "z"])]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n0,"open\n' + "1,row\n" * 500, 2),
        ('a,b\n1,x\n2,"y" z\n', 3),
        ('a,b\n1,"x\n2,"y"\n', 2),
        ("a,b\n1,x\n2,y,z\n", 3),
        ("a,b\n1,x\n2\n", 3),
        ('a,a\n1,"x"\n', 1),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_fault_names_its_line(text: str, line: int, end: str) -> None:
    with pytest.raises(UserError, match=f"^t:{line}: "):
        rows(text.replace("\n", end))
    with pytest.raises(UserError, match=f"^t:{line}: "):
        rows(text.replace("\n", end).replace(",", "\t"), "tsv-quoted")


def test_only_a_line_feed_ends_a_row() -> None:
    for mark in "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e":
        assert rows(f"a,b\n1,x{mark}y\n") == [(2, ["1", f"x{mark}y"])]
        assert rows(f"a\tb\n1\tx{mark}y\n", "tsv") == [(2, ["1", f"x{mark}y"])]
        delimiters: dict[TableFormat, str] = {"csv": ",", "tsv-quoted": "\t", "tsv-pandas": "\t"}
        for name, delimiter in delimiters.items():
            at_the_end = f"a,b\n1,x{mark}\n2,{mark}\n".replace(",", delimiter)
            assert rows(at_the_end, name) == [(2, ["1", f"x{mark}"]), (3, ["2", mark])]


def test_a_quotation_mark_in_a_tsv_is_kept_and_reported() -> None:
    left_out = LeftOut()
    assert rows('a\tb\n1\t"open\n2\tx\n', "tsv", left_out=left_out) == [
        (2, ["1", '"open']),
        (3, ["2", "x"]),
    ]
    (sentence,) = left_out.sentences()
    assert sentence.startswith("Kept as they are: rows with quotation marks")
    assert "(t:2)" in sentence


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_header_shows_what_separates_the_columns(mark: str) -> None:
    assert rows(f'a{mark}b\n1{mark}"x{mark}y"\n') == [(2, ["1", f"x{mark}y"])]


def test_a_row_is_read_when_it_is_asked_for() -> None:
    def chunks() -> Iterator[str]:
        yield "a,b\n1,x\n"
        yield "2,y\n"
        raise AssertionError("read too far")

    table = read_table(chunks(), "csv", where="t")
    assert next(table.rows) == (2, ["1", "x"])


@pytest.mark.parametrize("text", ["", "\n\n", " \n\t\n"])
def test_a_table_without_a_header(text: str) -> None:
    with pytest.raises(UserError, match="The table is empty"):
        rows(text)


def test_lines_that_quotation_marks_join_are_named() -> None:
    left_out = LeftOut()
    text = 'a\tb\n1\t"x\ny\nz"\n2\tw\n'
    assert rows(text, "tsv-quoted", left_out) == [(2, ["1", "x\ny\nz"]), (5, ["2", "w"])]
    assert left_out.sentences() == [
        "Joined: lines that continue the row before them, in which a quotation mark is open: 2 "
        "(t:3, t:4)."
    ]
    assert left_out.total() == 0


@given(st.lists(st.text('ab" ', max_size=6), min_size=1, max_size=6))
def test_the_same_rows_as_pandas(cells: list[str]) -> None:
    pandas = peer("pandas")
    text = "".join(f"{n}\t{cell}\n" for n, cell in enumerate(cells))
    try:
        expected = pandas.read_csv(
            io.StringIO(text), sep="\t", header=None, dtype=str, keep_default_na=False
        )
    except pandas.errors.ParserError:
        with pytest.raises(UserError):
            rows("a\tb\n" + text, "tsv-pandas")
        return
    found = [row for _, row in rows("a\tb\n" + text, "tsv-pandas")]
    assert found == expected.to_numpy().tolist()
