"""Whatever a record contains, it is read, or refused with a sentence that names it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.records.conversations import read_conversations
from groundup.records.labels import read_labels
from groundup.records.pairs import read_pairs

TEXTS = st.sampled_from(["", " ", "a", "user", "tool", '[{"role": 1}]', "[{", "[]", "nan"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
ROLES = st.sampled_from(["user", "assistant", "system", "human", "gpt"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": TEXTS}, optional={"weight": LEAVES})
    | st.fixed_dictionaries({"from": ROLES | LEAVES, "value": TEXTS | LEAVES})
    | LEAVES,
    max_size=4,
)
VALUES = LEAVES | TEXTS | MESSAGES | st.lists(st.lists(LEAVES, max_size=2), max_size=2)


def fields(names: str, more: str = "") -> Any:
    return st.fixed_dictionaries(
        dict.fromkeys(names.split(), TEXTS | VALUES), optional=dict.fromkeys(more.split(), VALUES)
    )


RECORDS = st.lists(
    fields("text label", "id")
    | fields("instruction output", "input system history tools")
    | fields("messages", "system tools")
    | fields("conversations", "system")
    | fields("prompt completion")
    | fields("prompt chosen rejected", "system")
    | fields("instruction chosen rejected", "input")
    | fields("chosen rejected")
    | fields("a b")
    | LEAVES,
    min_size=1,
    max_size=3,
)
SETTINGS = settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@SETTINGS
@given(RECORDS)
@pytest.mark.parametrize("read", [read_labels, read_conversations, read_pairs])
def test_any_record(tmp_path: Path, read: Any, records: list[Any]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for changes in ({}, {"skip_invalid": True}):
        try:
            read(path, **({} if read is read_labels else changes))
        except UserError as error:
            caught = error
        else:
            continue
        assert str(caught.located).startswith(str(path))
        assert caught.message.endswith((".", "`"))


@SETTINGS
@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_what_is_read_is_a_conversation(tmp_path: Path, lists: list[Any]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps({'messages': messages})}\n" for messages in lists))
    try:
        found = read_conversations(path, skip_invalid=True)
    except UserError:
        return
    for conversation in found:
        roles = [m.role for m in conversation.messages]
        assert all(m.content.strip() for m in conversation.messages)
        start = roles[0] == "system"
        assert roles[start:] == ["user", "assistant"] * (len(roles) // 2)
