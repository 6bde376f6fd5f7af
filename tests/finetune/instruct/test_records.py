"""Instruction records: both layouts, and every fault named with its record and field."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from groundup.base.errors import UserError
from groundup.finetune.instruct.records import Record, read_records, split_records
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut

GOOD = [
    {"instruction": "Name a color.", "input": "", "output": "Red."},
    {"instruction": "Spell it.", "input": "cat", "output": "c-a-t"},
    {"instruction": "Say hello.", "output": "Hello."},
]


def test_both_layouts(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, GOOD)))
    records = read_records(tmp_path / "a.json")
    assert records == read_records(tmp_path / "a.jsonl")
    assert records[1] == Record("Spell it.", "c-a-t", "cat")
    assert records[2].prompt == "Say hello."


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "", ["empty"]),
        ("a.json", '[{"instruction": ]', ["list is not closed"]),
        ("a.json", '{"instruction": "x"}', ["no field 'output'", ":1"]),
        ("a.json", json.dumps(GOOD[:1]), ["records is 1", "At least two"]),
        ("a.json", json.dumps([*GOOD, "text"]), ["record 4", "is a string"]),
        ("a.json", json.dumps([GOOD[0], {"instruction": "x"}]), ["record 2", "'output'"]),
        (
            "a.json",
            json.dumps([*GOOD, {**GOOD[0], "input": 3}]),
            ["record 4", "'input'", "the number 3"],
        ),
        (
            "a.json",
            json.dumps([{**GOOD[0], "output": " "}, *GOOD]),
            ["record 1", "'output'", "empty"],
        ),
        (
            "a.json",
            json.dumps([{"prompt": "x", "output": "y"}, GOOD[0]]),
            ["'instruction'", "prompt"],
        ),
        ("a.jsonl", json.dumps(GOOD[0]) + "\n\n{", ["not JSON", ":3"]),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, content: str, words: list[str]) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_records(tmp_path / name)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_and_a_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_records(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'["\xff"]')
    with pytest.raises(UserError, match="utf-8"):
        read_records(tmp_path / "a.json")


def test_a_prompt_is_on_one_side_only() -> None:
    records = [Record(f"ask {i % 20}", f"answer {i}") for i in range(60)]
    train, test = split_records(records, test_frac=0.2, max_test=100, seed=0)
    assert len(test) == 4
    assert len(train) == 48
    assert not {r.prompt for r in train} & {r.prompt for r in test}
    assert len(split_records(records, test_frac=0.9, max_test=5, seed=0)[1]) == 5
    with pytest.raises(UserError, match="have the same prompt"):
        split_records(records[::20], test_frac=0.2, max_test=5, seed=0)


def test_a_file_of_instructions(fixtures: Path) -> None:
    records = read_records(fixtures / "instructions.json")
    assert len(records) == 16
    assert records[0].prompt == "Name the opposite of the word.\nhot"
    assert records[4].prompt == "How many days does a week have?"
    assert records[11].output == "Guten Morgen"


def test_the_shared_instruction_data(shared_data: Path) -> None:
    assert len(read_records(shared_data / "instruction-data.json")) == 1100


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.json.gz"])
def test_every_format_and_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    rows = [{"instruction": f"say {i}", "input": "", "output": f"so, {i}"} for i in range(3)]
    columns = list(rows[0])
    content = {
        ".json": json.dumps(rows),
        ".jsonl": "\n".join(map(json.dumps, rows)),
        ".csv": "".join(
            ",".join(f'"{value}"' for value in row) + "\n"
            for row in [columns, *(list(row.values()) for row in rows)]
        ),
        ".tsv": "".join(
            "\t".join(row) + "\n" for row in [columns, *(list(row.values()) for row in rows)]
        ),
    }
    path = tmp_path / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(content[".json"].encode("utf-8-sig")))
    else:
        path.write_bytes(content[path.suffix].encode("utf-8-sig"))
    assert read_records(path) == [Record(f"say {i}", f"so, {i}") for i in range(3)]


def test_an_input_that_is_null_is_left_out(tmp_path: Path) -> None:
    first: dict[str, str | None] = {"instruction": "a", "input": None, "output": "b"}
    rows = [first, GOOD[0]]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read_records(tmp_path / "a.json")[0] == Record("a", "b")
    (tmp_path / "a.json").write_text(json.dumps([{**first, "output": None}, *GOOD]))
    with pytest.raises(UserError, match=r"record 1: The field 'output' is null"):
        read_records(tmp_path / "a.json")
    left_out = LeftOut()
    config = FileConfig(skip_empty=True)
    assert len(read_records(tmp_path / "a.json", config, left_out=left_out)) == 3
    assert left_out.total() == 1


def test_half_of_a_surrogate_pair_names_its_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([*GOOD, {**GOOD[0], "output": "smile \ud83d"}]))
    with pytest.raises(UserError, match=r"record 4: .*half of a surrogate pair"):
        read_records(tmp_path / "a.json")
