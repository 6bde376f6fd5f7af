"""Conversations: every layout is recognized, and every fault is named with its record."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from groundup.base.errors import UserError
from groundup.records.conversations import read_conversations
from groundup.records.rows import Conversation
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut
from groundup.tokenizer.template import Message

USER, ANSWER = Message("user", "Hi"), Message("assistant", "Hello")
SYSTEM = Message("system", "Be kind.")


def m(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def s(role: str, value: Any) -> dict[str, Any]:
    return {"from": role, "value": value}


def read(
    tmp_path: Path, *records: Any, name: str = "a.json", **settings: Any
) -> list[Conversation]:
    (tmp_path / name).write_text(json.dumps(records))
    return read_conversations(tmp_path / name, **settings)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"instruction": "Hi", "input": "", "output": "Hello"}, (USER, ANSWER)),
        ({"instruction": "Hi", "input": None, "output": " Hello\n"}, (USER, ANSWER)),
        ({"instruction": "Hi", "context": "", "response": "Hello"}, (USER, ANSWER)),
        (
            {"instruction": "Spell.", "input": "cat", "output": "c-a-t"},
            (Message("user", "Spell.\ncat"), Message("assistant", "c-a-t")),
        ),
        (
            {"instruction": "Hi", "output": "Hello", "system": "Be kind."},
            (SYSTEM, USER, ANSWER),
        ),
        (
            {"instruction": "Hi", "output": "Hello", "history": [["Hi", "Hello"]]},
            (USER, ANSWER, USER, ANSWER),
        ),
        (
            {"instruction": "Hi", "output": "Hello", "history": "[]", "messages": ""},
            (USER, ANSWER),
        ),
        (
            {"instruction": "Hi", "output": "Hello", "history": '[["Hi", "Hello"]]'},
            (USER, ANSWER, USER, ANSWER),
        ),
        ({"messages": [m("user", "Hi"), m("assistant", "Hello")]}, (USER, ANSWER)),
        (
            {"messages": [m("system", ""), m("user", "Hi"), m("assistant", "Hello")], "tools": []},
            (USER, ANSWER),
        ),
        (
            {
                "messages": [
                    m("system", "Be kind."),
                    m("user", [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]),
                    m("assistant", "Hello", tool_calls=None, weight=1),
                    m("user", "Hi"),
                    m("assistant", "Hello"),
                ]
            },
            (SYSTEM, USER, ANSWER, USER, ANSWER),
        ),
        (
            {"conversations": [s("human", "Hi"), s("gpt", "Hello")], "id": "x"},
            (USER, ANSWER),
        ),
        (
            {"system": "Be kind.", "conversations": [s("user", "Hi"), s("assistant", "Hello")]},
            (SYSTEM, USER, ANSWER),
        ),
        ({"conversations": [m("user", "Hi"), m("assistant", "Hello")]}, (USER, ANSWER)),
        ({"prompt": "Hi", "completion": " Hello"}, (USER, ANSWER)),
        (
            {
                "prompt": [m("system", "Be kind."), m("user", "Hi")],
                "completion": [m("assistant", "Hello")],
            },
            (SYSTEM, USER, ANSWER),
        ),
    ],
)
def test_every_layout(
    tmp_path: Path, record: dict[str, Any], expected: tuple[Message, ...]
) -> None:
    (found,) = read(tmp_path, record)
    assert found == Conversation(expected, "a.json:1")


def test_prompt_and_answer() -> None:
    found = Conversation((SYSTEM, USER, ANSWER, Message("user", "Bye"), Message("assistant", "!")))
    assert found.prompt == "Hi\nBye"
    assert found.answer == "!"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([m("user", "a")], "The last message is of the user. A conversation that ends with an ans"),
        (
            [m("system", "a"), m("system", "b"), m("user", "c"), m("assistant", "d")],
            "The conversation has 2 system messages. At most one is expected, before all others.",
        ),
        (
            [m("user", "a"), m("system", "b"), m("assistant", "c")],
            "Message 2 is a system message. It is expected before all others.",
        ),
        ([m("user", "a"), m("assistant", " ")], "'answer (message 2)' is empty"),
        ([m("user", ""), m("assistant", "b")], "'message of the user (message 1)' is empty"),
        (
            [m("system", "s"), m("user", "a"), m("user", "b"), m("assistant", "c")],
            "Message 3 is of the user. Messages of user and assistant are expected in turns",
        ),
        ([m("assistant", "a")], "Message 1 is of the assistant."),
        ([], "The conversation has no messages of user and assistant."),
        ([m("system", "a")], "The conversation has no messages of user and assistant."),
        ([m("user", "a"), m("tool", "b")], "Message 2 has the role 'tool', which is not supported"),
        ([m("user", "a"), m("function", "b")], "Message 2 has the role 'function'"),
        (
            [m("user", "a"), m("assistant", "b", tool_calls=[{"id": 1}])],
            "Message 2 has a field 'tool_calls', which is not supported.",
        ),
        ([m("user", "a"), m("assistant", "b", weight=0)], "Message 2 has the weight 0"),
        (
            [m("user", "a"), m("critic", "b")],
            "Message 2 has the role 'critic'. One of system, user",
        ),
        ([m("user", "a"), m("assistant", None)], "The content of message 2 is null."),
        (
            [m("user", [{"type": "image_url", "image_url": "x"}]), m("assistant", "a")],
            "The content of message 1 is a list of 1 value. A string is expected; pictures",
        ),
        ([{"role": "user"}], "Message 1 has no field 'content' (it has: role)."),
        ([{"value": "a"}], "Message 1 has no field 'role' (it has: value)."),
        (["Hi"], "Message 1 is a string. An object with role and content is expected."),
        ("Hi", "The field 'messages' is a string. A list of messages is expected."),
        ("[1", "The field 'messages' is not valid JSON"),
    ],
)
def test_a_fault_is_one_sentence_with_its_record(tmp_path: Path, messages: Any, words: str) -> None:
    good = {"messages": [m("user", "Hi"), m("assistant", "Hello")]}
    with pytest.raises(UserError) as caught:
        read(tmp_path, good, {"messages": messages})
    assert words in str(caught.value)
    assert "a.json, record 2: " in str(caught.value)
    left_out = LeftOut()
    found = read(tmp_path, good, {"messages": messages}, good, skip_invalid=True, left_out=left_out)
    assert [row.where for row in found] == ["a.json:1", "a.json:3"]
    assert left_out.total() == 1
    assert "a.json:2: " in left_out.sentences()[0]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"text": "a"}, "The fields of this record are: text. Expected are instruction, input and"),
        ({"prompt": "a", "chosen": "b"}, "Preference pairs are read by `groundup prefer`."),
        ({"instruction": "x"}, "no field 'output'"),
        ({"instruction": "x", "input": "", "output": " "}, "The field 'output' is empty"),
        ({"instruction": "x", "input": 3, "output": "y"}, "'input' is the number 3"),
        ({"instruction": "x", "output": None}, "The field 'output' is null"),
        ({"instruction": "x", "output": "y", "history": ["a"]}, "'history' is not a list of pairs"),
        ({"instruction": "x", "output": "y", "history": 5}, "'history' is not a list of pairs"),
        ({"conversations": [s("human", "a")], "tools": [{}]}, "a field 'tools'"),
        ({"instruction": "x", "output": "smile \ud83d"}, "half of a surrogate pair"),
        ({"messages": [m("user", "\ud83d"), m("assistant", "a")]}, "half of a surrogate pair"),
        ("text", "is a string"),
    ],
)
def test_faults_of_records(tmp_path: Path, record: Any, words: str) -> None:
    with pytest.raises(UserError, match=r"record 1: ") as caught:
        read(tmp_path, record)
    assert words in str(caught.value)


def test_a_stated_layout_is_not_guessed(tmp_path: Path) -> None:
    record = {"instruction": "a", "output": "b", "messages": [m("user", "c"), m("assistant", "d")]}
    assert read(tmp_path, record)[0].prompt == "c"
    assert read(tmp_path, record, layout="alpaca")[0].prompt == "a"
    with pytest.raises(UserError, match="no field 'prompt'"):
        read(tmp_path, record, layout="prompt-completion")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.json.gz"])
@pytest.mark.parametrize("is_alpaca", [True, False])
def test_every_format(tmp_path: Path, name: str, is_alpaca: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": f"say {i}", "input": "", "output": f"so, {i}"}
        if is_alpaca
        else {"id": "x", "messages": [m("user", f"say {i}"), m("assistant", f"so, {i}")]}
        for i in range(3)
    ]
    cells = [[v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows]
    quoted = [",".join('"{}"'.format(c.replace('"', '""')) for c in row) for row in cells]
    content = {
        ".json": json.dumps(rows),
        ".jsonl": "\n\n".join(map(json.dumps, rows)),
        ".csv": "\n".join([",".join(rows[0]), *quoted]),
        ".tsv": "\n".join(["\t".join(rows[0]), *map("\t".join, cells)]),
    }
    path = tmp_path / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(content[".json"].encode("utf-8-sig")))
    else:
        path.write_bytes(content[path.suffix].encode("utf-8-sig"))
    found = read_conversations(path)
    assert [(c.prompt, c.answer) for c in found] == [(f"say {i}", f"so, {i}") for i in range(3)]


@pytest.mark.parametrize("content", ["", "[]", "[ ]"])
def test_a_file_without_records(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError):
        read_conversations(tmp_path / "a.json")


def test_empty_answers_are_left_out_on_request(tmp_path: Path) -> None:
    left_out = LeftOut()
    rows = [{"instruction": "a", "output": text} for text in ("", "b", None)]
    found = read(tmp_path, *rows, config=FileConfig(skip_empty=True), left_out=left_out)
    assert [row.answer for row in found] == ["b"]
    assert left_out.total() == 2


def test_a_field_names_the_set(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b", "part": part} for part in ("train", "dev")]
    found = read(tmp_path, *rows, split_column="part")
    assert [row.part for row in found] == ["train", "validation"]


def test_a_file_of_instructions(fixtures: Path) -> None:
    found = read_conversations(fixtures / "instructions.json")
    assert len(found) == 16
    assert found[0].prompt == "Name the opposite of the word.\nhot"
    assert found[11].answer == "Guten Morgen"


def test_the_shared_instruction_data(shared_data: Path) -> None:
    found = read_conversations(shared_data / "instruction-data.json")
    assert len(found) == 1100
    assert len({row.prompt for row in found}) == 1100 - 25
