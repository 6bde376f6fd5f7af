"""Change a JSON value or bytes at one random place, as damage or another writer might."""

import json
import random
from typing import Any

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 255, 10**12, 0.5, "", "a", "Ġa", "<|a|>", "BPE", "Isolated", [],
    {}, [[]], {"a": 0}, ["a", "b"], "ByteLevel", {"type": "ByteLevel"}, r"\d+", r"\w", "[", "^",
]  # fmt: skip


def mutate(value: Any, draw: random.Random) -> Any:
    """Return a copy with one change at one place."""
    copy = json.loads(json.dumps(value))
    if not isinstance(copy, dict | list) or not copy:
        return draw.choice(VALUES)
    parent, at = copy, None
    while isinstance(parent, dict | list) and parent:
        at = draw.choice(list(parent)) if isinstance(parent, dict) else draw.randrange(len(parent))
        if not isinstance(parent[at], dict | list) or not parent[at] or draw.random() < 0.15:
            break
        parent = parent[at]
    match draw.randrange(5 if isinstance(parent, dict) else 6):
        case 0:
            del parent[at]
        case 1 if isinstance(parent, dict):
            parent[draw.choice(["a", "new", f"{at}a"])] = parent.pop(at)
        case 2 if isinstance(parent[at], int):
            parent[at] += draw.choice([-1, 1, 7])
        case 3:
            other = draw.choice(list(parent)) if isinstance(parent, dict) else 0
            parent[at], parent[other] = parent[other], parent[at]
        case 5:
            parent.insert(at, parent[at])
        case _:
            parent[at] = draw.choice(VALUES)
    return copy


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return a copy with bytes or lines changed, removed, doubled or swapped."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[draw.randrange(len(lines))])
        case 2:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = draw.choice([b"\xff", b"a b c", b" ", b"\r", b"#version", b"YQ== -1", b"9"])
        case 4:
            return data[: draw.randrange(len(data) + 1)]
        case _:
            line = bytearray(lines[at] or b"x")
            line[draw.randrange(len(line))] = draw.randrange(256)
            lines[at] = bytes(line)
    return b"\n".join(lines)
