"""Labeled texts: every layout is read, every fault is named with its place."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.finetune.classify.labels import LabeledText, read_labels, split_labels
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut

EXPECTED = [
    LabeledText("good film", "yes"),
    LabeledText("bad film", "no"),
    LabeledText('fine, "really" fine', "yes"),
    LabeledText("dull", "no"),
]


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_reads_every_layout_alike(tmp_path: Path) -> None:
    rows = [(e.text, e.label) for e in EXPECTED]
    bare = write(tmp_path, "bare.tsv", "".join(f"{label}\t{text}\n" for text, label in rows))
    header = write(
        tmp_path,
        "header.tsv",
        "id\ttext\tlabel\r\n" + "".join(f"{i}\t{t}\t{lab}\r\n" for i, (t, lab) in enumerate(rows)),
    )
    quoted = [(text.replace('"', '""'), label) for text, label in rows]
    comma = write(
        tmp_path, "a.csv", "\ufefflabel,text\n" + "".join(f'{lab},"{t}"\n' for t, lab in quoted)
    )
    lines = write(
        tmp_path,
        "a.jsonl",
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows) + "\n\n",
    )
    for path in (bare, header, comma, lines):
        assert read_labels(path) == EXPECTED, path.name


def test_own_column_names_and_a_field_over_two_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'message,kind\n"two\nlines",a\nx,b\ny,a\nz,b\n')
    examples = read_labels(path, text_column="message", label_column="kind")
    assert examples[0] == LabeledText("two\nlines", "a")
    assert len(examples) == 4


def test_a_quotation_mark_in_a_tsv_swallows_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'a\t"open\nb\tother\na\tthird\nb\tfourth\n')
    assert [e.text for e in read_labels(path)] == ['"open', "other", "third", "fourth"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.tsv", "", ["empty"]),
        ("blank.tsv", "\n \n", ["empty"]),
        ("one.tsv", "ham\thello\nham\tthere\n", ["All labels are 'ham'", "two classes"]),
        (
            "cols.csv",
            "message,kind\nx,a\ny,b\n",
            [
                "message, kind",
                "no column text and no column label",
                "text_column='message', label_column='kind'",
            ],
        ),
        (
            "cols.jsonl",
            '{"text": "x", "class": 1}\n',
            ["text, class", "no column label", ":1", "label_column='class'"],
        ),
        ("short.tsv", "ham\thello\nspam\tbuy\njust text\n", ["1 columns", "2 are", ":3"]),
        ("wide.csv", "text,label\nx,a\ny,b,c\n", ["3 columns", "2 are", ":3"]),
        ("text.tsv", "ham\thello\nspam\t \n", ["'text' is empty", "skip_empty", ":2"]),
        ("label.jsonl", '{"text": "x", "label": null}', ["'label' is null", "skip_empty", ":1"]),
        (
            "list.jsonl",
            '{"text": "x", "label": "a"}\n[1]\n',
            ["is a list of 1 value", ":2"],
        ),
        ("broken.jsonl", '{"text": "x", "label": "a"}\n{"text"\n', ["not JSON", ":2"]),
        (
            "head.tsv",
            "kind\tmessage\na\tx\na\ty\nb\tz\nb\tw\n",
            ["'kind'", "text_column='message', label_column='kind'"],
        ),
        ("latin.tsv", b"a\tcaf\xe9\n", ["Byte 5", "utf-8"]),
        ("a.parquet", "x", ["not a Parquet file"]),
        ("a", "x", ["a text without records", "JSON lines"]),
    ],
)
def test_faults_are_named(
    tmp_path: Path, name: str, content: str | bytes, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        read_labels(write(tmp_path, name, content))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "message,kind\nlong text,a\nother text,a\nthird text,b\nlast text,b\n"),
        (
            "a.jsonl",
            '{"message": "text", "kind": 1}\n' * 2 + '{"message": "text", "kind": 2}\n' * 2,
        ),
        ("a.tsv", "kind\tmessage\na\tx\na\ty\nb\tz\nb\tw\n"),
    ],
)
def test_the_settings_of_the_error_work(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        read_labels(path)
    assert caught.value.settings == {"text_column": "message", "label_column": "kind"}
    assert len(read_labels(path, text_column="message", label_column="kind")) == 4


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_labels(tmp_path / "none.tsv")


@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=5),
    test_frac=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**31),
)
def test_split_shares_no_text_and_keeps_the_classes(
    sizes: list[int], test_frac: float, seed: int
) -> None:
    rows = [LabeledText(f"text {k} {i}", f"c{k}") for k, n in enumerate(sizes) for i in range(n)]
    split = split_labels(rows, test_frac=test_frac, seed=seed, source="test")
    assert sorted(split.train + split.test, key=repr) == sorted(rows, key=repr)
    assert not {e.text for e in split.train} & {e.text for e in split.test}
    for k, size in enumerate(sizes):
        n_test = Counter(e.label for e in split.test)[f"c{k}"]
        assert 1 <= n_test < size
        assert abs(n_test - test_frac * size) <= 1


def test_duplicates_are_kept_once_and_counted() -> None:
    rows = [LabeledText(f"text {i}", "ab"[i % 2]) for i in range(8)]
    rows += [LabeledText("TEXT  0", "a"), LabeledText("text 1", "b")]
    split = split_labels(rows, test_frac=0.25, seed=0, source="test")
    assert split.n_duplicates == 2
    assert len(split.train) + len(split.test) == 8


def test_messages_in_the_format_of_the_sms_collection(fixtures: Path) -> None:
    examples = read_labels(fixtures / "messages.tsv")
    assert Counter(e.label for e in examples) == {"ham": 32, "spam": 11}
    assert any('"Thank you"' in e.text for e in examples)
    split = split_labels(examples, test_frac=0.2, seed=0, source="messages")
    assert split.n_duplicates == 3
    assert Counter(e.label for e in split.test) == {"ham": 6, "spam": 2}


def test_the_sms_collection(shared_data: Path) -> None:
    examples = read_labels(shared_data / "sms-spam.tsv")
    assert Counter(e.label for e in examples) == {"ham": 4827, "spam": 747}
    split = split_labels(examples, test_frac=0.2, seed=0, source="sms")
    assert split.n_duplicates > 300


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("1.0", "1"),
        ("0.0", "0"),
        ("-3.0", "-3"),
        ("7", "7"),
        ("true", "True"),
        ('" spam "', "spam"),
        ("0.5", None),
        ("1e300", None),
        ("null", None),
        ('" "', None),
        ("[1]", None),
    ],
)
def test_a_label_is_a_name_or_a_whole_number(tmp_path: Path, label: str, name: str | None) -> None:
    lines = [f'{{"text": "one {i}", "label": {label}}}\n' for i in range(2)]
    lines += [f'{{"text": "two {i}", "label": "other"}}\n' for i in range(2)]
    path = write(tmp_path, "a.jsonl", "".join(lines))
    if name is None:
        with pytest.raises(UserError, match=r"a\.jsonl:1: .*(label|'label')"):
            read_labels(path)
        return
    assert [example.label for example in read_labels(path)] == [name, name, "other", "other"]


def test_marks_that_end_no_row(tmp_path: Path) -> None:
    texts = [f"one{mark}two" for mark in "\u2028\u2029\x85\x0b\x0c\x1c"]
    rows = "".join(f"{text},{label}\n" for text in texts for label in ("x", "y"))
    path = write(tmp_path, "a.csv", f"text,label\n{rows}")
    assert [e.text for e in read_labels(path) if e.label == "x"] == [t.strip() for t in texts]


def test_rows_without_text_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\na,x\n ,x\nb,x\nc,\nd,y\ne,y\n")
    with pytest.raises(UserError, match=r"a\.csv:3: .*skip_empty"):
        read_labels(path)
    left_out = LeftOut()
    assert len(read_labels(path, FileConfig(skip_empty=True), left_out=left_out)) == 4
    assert left_out.sentences() == ["Left out: rows without text or label: 2 (a.csv:3, a.csv:5)."]
