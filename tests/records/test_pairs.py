"""Preference pairs: every layout is read, and every fault is named with its record."""

import json
from pathlib import Path
from typing import Any

import pytest
from peers import peer

from groundup.base.errors import UserError
from groundup.records.pairs import read_pairs
from groundup.records.rows import Pair
from groundup.text.left_out import LeftOut
from groundup.tokenizer.template import Message

PROMPT = (Message("user", "Hi"),)
SYSTEM = Message("system", "Be kind.")


def m(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


ASKED = [m("user", "Hi")]
GOOD, BAD = [m("assistant", "Hello")], [m("assistant", "No")]


def read(tmp_path: Path, *records: Any, **settings: Any) -> list[Pair]:
    (tmp_path / "a.json").write_text(json.dumps(records))
    return read_pairs(tmp_path / "a.json", **settings)


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Hi", "chosen": "Hello", "rejected": " No"}, PROMPT),
        ({"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "No"}, PROMPT),
        (
            {"system": "Be kind.", "prompt": "Hi", "chosen": "Hello", "rejected": "No"},
            (SYSTEM, *PROMPT),
        ),
        ({"prompt": [m("user", "Hi")], "chosen": "Hello", "rejected": "No"}, PROMPT),
        ({"prompt": [m("user", "Hi")], "chosen": GOOD, "rejected": BAD}, PROMPT),
        ({"prompt": "Hi", "chosen": GOOD, "rejected": BAD}, PROMPT),
        ({"chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]}, PROMPT),
        (
            {
                "prompt": "Hi",
                "chosen": [m("user", "Hi"), *GOOD],
                "rejected": [m("user", "Hi"), *BAD],
            },
            PROMPT,
        ),
        (
            {
                "prompt": "Hi",
                "chosen": json.dumps([*ASKED, *GOOD]),
                "rejected": json.dumps([*ASKED, *BAD]),
            },
            PROMPT,
        ),
        (
            {
                "prompt": "Hi",
                "chosen": json.dumps(GOOD, indent=1),
                "rejected": json.dumps(BAD, indent=1),
            },
            PROMPT,
        ),
    ],
)
def test_every_layout(tmp_path: Path, record: Any, prompt: tuple[Message, ...]) -> None:
    assert read(tmp_path, record) == [Pair(prompt, "Hello", "No", "a.json:1")]


def test_json_that_is_no_list_of_messages_is_a_text(tmp_path: Path) -> None:
    chosen, rejected = json.dumps([{"name": "Ann", "role": "admin"}]), "[1, 2"
    (pair,) = read(tmp_path, {"prompt": "[{", "chosen": chosen, "rejected": rejected})
    assert (pair.messages[0].content, pair.chosen, pair.rejected) == ("[{", chosen, rejected)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"prompt": "a", "chosen": str(GOOD), "rejected": str(BAD)},
            "The field 'chosen' is not valid JSON",
        ),
        ({"prompt": "a", "chosen": "b"}, "This record has no field 'rejected' (it has: prompt, ch"),
        ({"chosen": "b", "rejected": "c"}, "This record has no field 'prompt'"),
        ({"prompt": "a", "chosen": "", "rejected": "c"}, "The field 'chosen' is empty"),
        ({"prompt": "a", "chosen": None, "rejected": "c"}, "The field 'chosen' is null"),
        ({"prompt": " ", "chosen": "b", "rejected": "c"}, "The field 'prompt' is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "'rejected' is the number 3"),
        (
            {"chosen": [m("user", "a"), *GOOD], "rejected": [m("user", "b"), *BAD]},
            "The conversations of chosen and rejected differ before their last message.",
        ),
        (
            {"chosen": [m("user", "a")], "rejected": [m("user", "b")]},
            "The last message of 'chosen' is not of the assistant.",
        ),
        (
            {"prompt": [m("user", "a"), m("assistant", "b")], "chosen": "c", "rejected": "d"},
            "The last message of the prompt is of the assistant.",
        ),
        (
            {"prompt": [m("tool", "a")], "chosen": "c", "rejected": "d"},
            "Message 1 has the role 'tool'",
        ),
        ({"prompt": [], "chosen": "c", "rejected": "d"}, "no messages of user and assistant"),
    ],
)
def test_faults_are_named(tmp_path: Path, record: Any, words: str) -> None:
    good = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    with pytest.raises(UserError, match="record 2: ") as caught:
        read(tmp_path, good, record)
    assert words in str(caught.value)
    left_out = LeftOut()
    assert len(read(tmp_path, good, record, skip_invalid=True, left_out=left_out)) == 1
    assert left_out.total() == 1
    with pytest.raises(UserError, match="record 1: "):
        read(tmp_path, record, skip_invalid=True)


def test_the_shared_preference_data(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "preference-data.json")
    assert len(pairs) == 1100
    assert sum(pair.chosen == pair.rejected for pair in pairs) == 6


@pytest.mark.parity
@pytest.mark.parametrize("n_turns", [1, 3])
def test_the_prompt_that_both_answers_share_is_that_of_trl(tmp_path: Path, n_turns: int) -> None:
    extract_prompt = peer("trl").extract_prompt
    turns = [m("user" if k % 2 == 0 else "assistant", f"turn {k}") for k in range(n_turns)]
    record = {"chosen": [*turns, *GOOD], "rejected": [*turns, *BAD]}
    theirs = extract_prompt(record)
    (pair,) = read(tmp_path, record)
    assert [m(x.role, x.content) for x in pair.messages] == theirs["prompt"]
    assert [m("assistant", pair.chosen)] == theirs["chosen"]
    assert [m("assistant", pair.rejected)] == theirs["rejected"]
