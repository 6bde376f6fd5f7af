"""Labeled texts: every layout is read, every fault is named with its place."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from peers import peer

from groundup.base.errors import UserError
from groundup.records.labels import check_classes, check_seen, read_labels
from groundup.records.rows import LabeledText
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut

ROWS = [
    ("good film", "yes"),
    ("bad film", "no"),
    ('fine, "really" fine', "yes"),
    ("dull", "no"),
]


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, **settings: object) -> list[tuple[str, str]]:
    return [(row.text, row.label) for row in read_labels(path, **settings).rows]  # type: ignore[arg-type]


def test_reads_every_layout_alike(tmp_path: Path) -> None:
    bare = write(tmp_path, "bare.tsv", "".join(f"{label}\t{text}\n" for text, label in ROWS))
    header = write(
        tmp_path,
        "header.tsv",
        "id\ttext\tlabel\r\n" + "".join(f"{i}\t{t}\t{lab}\r\n" for i, (t, lab) in enumerate(ROWS)),
    )
    quoted = [(text.replace('"', '""'), label) for text, label in ROWS]
    comma = write(
        tmp_path, "a.csv", "\ufefflabel,text\n" + "".join(f'{lab},"{t}"\n' for t, lab in quoted)
    )
    lines = write(
        tmp_path,
        "a.jsonl",
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS) + "\n\n",
    )
    parquet = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pa.table({"label": [lab for _, lab in ROWS], "text": [text for text, _ in ROWS]}), parquet
    )
    for path in (bare, header, comma, lines, parquet):
        assert read(path) == ROWS, path.name
    assert read_labels(comma).rows[1] == LabeledText("bad film", "no", "a.csv:3")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "message,kind\ngood film,yes\nbad film,no\nlong film,yes\ndull,no\n"),
        ("a.csv", "kind,message\nyes,good film\nno,bad film\nyes,long film\nno,dull\n"),
        ("a.tsv", "kind\tmessage\nyes\tgood film\nno\tbad film\nyes\tlong film\nno\tdull\n"),
        (
            "a.jsonl",
            '{"message": "good film", "kind": "yes"}\n{"message": "bad film", "kind": "no"}\n'
            '{"message": "long film", "kind": "yes"}\n{"message": "dull", "kind": "no"}\n',
        ),
    ],
)
def test_two_columns_are_guessed_and_named(tmp_path: Path, name: str, content: str) -> None:
    found = read_labels(write(tmp_path, name, content))
    assert (found.text_column, found.label_column) == ("message", "kind")
    assert found.labels == ["yes", "no", "yes", "no"]
    assert found.texts[0] == "good film"
    assert found.notes == (
        "Texts are read from the column 'message' and labels from the column 'kind', the only "
        "ones there are.",
    )


@pytest.mark.parametrize(
    ("name", "mark"), [("a.csv", ","), ("a.tsv", "\t"), ("A.TSV", "\t"), ("spam", "\t")]
)
@pytest.mark.parametrize("label_first", [True, False])
def test_a_table_without_a_header(tmp_path: Path, name: str, mark: str, label_first: bool) -> None:
    rows = [("spam", "win"), ("ham", "hello"), ("spam", "call"), ("ham", "bye")]
    lines = [mark.join(row if label_first else row[::-1]) for row in rows]
    config = FileConfig(format="auto" if "." in name else "tsv")
    found = read_labels(write(tmp_path, name, "\n".join(lines)), config)
    assert [(row.label, row.text) for row in found.rows] == rows
    assert [row.where for row in found.rows] == [f"{name}:{n}" for n in range(1, 5)]
    places = (1, 2) if label_first else (2, 1)
    assert found.notes[0].endswith(
        "Labels are read from column {}, texts from column {}.".format(*places)
    )


def test_a_sentence_is_no_name_of_a_column(tmp_path: Path) -> None:
    found = read_labels(write(tmp_path, "a.tsv", "see you at noon\tx\nbye\ty\nhello\ty\n"))
    assert found.labels == ["x", "y", "y"]
    assert not found.notes[0].startswith("Texts")


def test_one_known_name_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path, "sst.tsv", "sentence\tlabel\nfun\t1\nbad\t0\nlovely\t1\nawful\t0\n")
    found = read_labels(path)
    assert (found.text_column, found.label_column) == ("sentence", "label")
    assert "'sentence'" in found.notes[0]


def test_own_column_names_and_a_field_over_two_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'id,message,kind\n1,"two\nlines",a\n2,x,b\n')
    found = read_labels(path, text_column="message", label_column="kind")
    assert found.texts == ["two\nlines", "x"]
    assert not found.notes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.tsv", "", ["empty"]),
        ("blank.tsv", "\n \n", ["empty"]),
        (
            "cols.csv",
            "id,message,kind\n1,xxx,a\n2,yyy,b\n3,zzz,a\n",
            [
                "no column 'text' and no column 'label'",
                "The columns are: id, message, kind.",
                "text_column='message', label_column='kind'",
            ],
        ),
        (
            "alike.csv",
            "one,two\nlong,b\nc,d\n",
            ["The columns are: one, two.", "text_column='one', label_column='two'"],
        ),
        (
            "cols.jsonl",
            '{"text": "x", "class": 1, "id": 7}\n',
            ["text, class, id", "no column 'label'", ":1"],
        ),
        ("short.tsv", "ham\thello\nspam\tbuy\njust text\n", ["1 columns", "2 are", ":3"]),
        ("wide.csv", "text,label\nx,a\ny,b,c\n", ["3 columns", "2 are", ":3"]),
        ("twice.csv", "text,label,text\nx,a,y\n", ["two columns named 'text'", ":1"]),
        ("list.jsonl", '{"text": "x", "label": "a"}\n[1]\n', ["is a list of 1 value", ":2"]),
        ("first.jsonl", "[1]\n", ["a list of 1 value"]),
        ("broken.jsonl", '{"text": "x", "label": "a"}\n{"text"\n', ["not JSON", ":2"]),
        ("latin.tsv", b"a\tcaf\xe9\n", ["Byte 5", "utf-8"]),
        ("a.parquet", "x", ["not a Parquet file"]),
        ("a", "x", ["a text without records", "JSON lines"]),
        ("half.jsonl", '{"text": "x", "label": 0.5}\n', ["the number 0.5", ":1"]),
        ("number.jsonl", '{"text": 5, "label": "a"}\n', ["the number 5", "string", ":1"]),
        ("none.csv", "text,label\n,a\n ,b\n", ["No row has both text and label"]),
    ],
)
def test_faults_are_named(
    tmp_path: Path, name: str, content: str | bytes, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        read_labels(write(tmp_path, name, content))
    for word in words:
        assert word in str(caught.value)


def test_a_column_that_was_asked_for_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "message,kind\nlong text,a\nother text,b\n")
    with pytest.raises(UserError) as caught:
        read_labels(path, label_column="class")
    assert "The columns are: message, kind." in str(caught.value)
    assert caught.value.settings == {"text_column": "message", "label_column": "kind"}
    assert read_labels(path, text_column="message", label_column="kind").labels == ["a", "b"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_labels(tmp_path / "none.tsv")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("1.0", "1"),
        ("0.0", "0"),
        ("-3.0", "-3"),
        ("7", "7"),
        ("true", "True"),
        ('" spam "', "spam"),
        ("1e300", None),
        ("[1]", None),
    ],
)
def test_a_label_is_a_name_or_a_whole_number(tmp_path: Path, label: str, name: str | None) -> None:
    path = write(tmp_path, "a.jsonl", f'{{"text": "one", "label": {label}}}\n')
    if name is None:
        with pytest.raises(UserError, match=r"a\.jsonl:1: The label is"):
            read_labels(path)
        return
    assert read_labels(path).labels == [name]


@pytest.mark.parametrize("label", ["null", '"nan"', '"NaN"', '" "'])
def test_labels_that_are_missing(tmp_path: Path, label: str) -> None:
    row = '{"text": "one", "label": "a"}\n'
    path = write(
        tmp_path, "a.jsonl", f'{row}{{"text": "two", "label": {label}}}\n{row}' + f"{row}" * 2
    )
    with pytest.raises(UserError, match=r"The label of 1 rows is missing.*'label': a\.jsonl:2\."):
        read_labels(path)
    left_out = LeftOut()
    assert len(read_labels(path, FileConfig(skip_empty=True), left_out=left_out).rows) == 4
    assert left_out.sentences() == ["Left out: rows without label: 1 (a.jsonl:2)."]


def test_nan_of_a_parquet_file(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": [1.0, float("nan")]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="The label of 1 rows is missing"):
        read_labels(tmp_path / "a.parquet")


def test_rows_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\na,x\n ,x\nb,x\n\u2003,y\nd,y\ne,y\n")
    left_out = LeftOut()
    assert read_labels(path, left_out=left_out).texts == ["a", "b", "d", "e"]
    assert left_out.sentences() == ["Left out: rows without text: 2 (a.csv:3, a.csv:5)."]


def test_marks_that_end_no_row(tmp_path: Path) -> None:
    texts = [f"one{mark}two" for mark in "\u2028\u2029\x85\x0b\x0c\x1c"]
    rows = "".join(f"{text},{label}\n" for text in texts for label in ("x", "y"))
    found = read_labels(write(tmp_path, "a.csv", f"text,label\n{rows}"))
    assert [row.text for row in found.rows if row.label == "x"] == texts


def test_a_column_names_the_set(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label,split\na,x,train\nb,y,Valid\nc,x,test\n")
    parts = [row.part for row in read_labels(path, split_column="split").rows]
    assert parts == ["train", "validation", "test"]
    path = write(tmp_path, "b.csv", "text,label,split\na,x,first\n")
    with pytest.raises(UserError, match=r"b\.csv:2: The column 'split' contains 'first'\. One of"):
        read_labels(path, split_column="split")


def test_classes() -> None:
    check_classes(["a", "b", "a", "b"], where="a.csv")
    with pytest.raises(UserError, match=r"All labels are 'a'\. At least two classes"):
        check_classes(["a", "a"], where="a.csv")
    with pytest.raises(UserError, match=r"fewer than 2 texts: 'b' \(1\)\. Each class needs"):
        check_classes(["a", "b", "a"], where="a.csv")
    with pytest.raises(UserError, match="There are no texts"):
        check_classes([], where="a.csv")


def test_a_label_that_was_not_trained_on() -> None:
    train = [LabeledText("x", "a", "t.csv:2"), LabeledText("y", "b", "t.csv:3")]
    check_seen(train, train, name="test")
    test = [LabeledText("z", "c", "e.csv:2"), LabeledText("z", "c", "e.csv:3"), *train]
    with pytest.raises(UserError) as caught:
        check_seen(train, test, name="test")
    assert str(caught.value) == (
        "The test set has 2 texts with a label that the training set does not have: 'c' "
        "(e.csv:2). The labels of the training set are: 'a', 'b'."
    )


def test_messages_in_the_format_of_the_sms_collection(fixtures: Path) -> None:
    found = read_labels(fixtures / "messages.tsv")
    assert Counter(found.labels) == {"ham": 32, "spam": 11}
    assert any('"Thank you"' in text for text in found.texts)


def test_the_sms_collection(shared_data: Path) -> None:
    found = read_labels(shared_data / "sms-spam.tsv")
    assert Counter(found.labels) == {"ham": 4827, "spam": 747}


def test_the_sms_collection_as_pandas_reads_it(shared_data: Path) -> None:
    pandas = peer("pandas")
    path = shared_data / "sms-spam.tsv"
    left_out = LeftOut()
    found = read_labels(path, FileConfig(format="tsv-pandas"), left_out=left_out)
    assert len(found.rows) == 5572
    assert left_out.counts.popitem()[1].count == 2
    frame = pandas.read_csv(path, sep="\t", header=None)
    assert found.labels == list(frame[0])
    assert found.texts == list(frame[1])
    with pytest.raises(UserError, match=r"sms-spam\.tsv:283: .*not valid CSV") as caught:
        read_labels(path, FileConfig(format="tsv-quoted"))
    assert caught.value.settings == {"format": "tsv-pandas"}
