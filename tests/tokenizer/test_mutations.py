"""Damaged tokenizer files give the ids of an independent reader, or a refusal."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_tokenizers import KINDS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.files import load_tokenizer, save_gpt2, save_tiktoken
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.round_trip import CANARY
from groundup.tokenizer.save import describe_bpe
from groundup.tokenizer.train_bpe import train_bpe

from .mutations import mutate, mutate_bytes

tokenizers = pytest.importorskip("tokenizers")
tiktoken = pytest.importorskip("tiktoken")

SAMPLE = "the cat's 12 mats sat aa aaa;  on the mat\n\n" * 3
SMALL = train_bpe([SAMPLE], 275, pattern="gpt2", special_tokens=["<|endoftext|>", "<|a|>"])
TEXTS = [SAMPLE, CANARY, "the<|a|>mat aaaa 1234", "\u00e9\u0301 '\u017f don't"]
_FORMATS = ("json", "foreign", "two", "ranks", "ladder")
SEED = st.integers(0, 2**64 - 1)
N = settings(max_examples=60, deadline=None)


def read(folder: Path, **arguments: Any) -> Any:
    """Load a tokenizer; None if it is refused with its place named."""
    try:
        return load_tokenizer(folder, **arguments)
    except UserError as error:
        if error.where is None:
            raise
        return None


def compare(ours: BPETokenizer | ImportedTokenizer, encode: Callable[[str], list[int]]) -> None:
    for text in TEXTS:
        assert ours.encode(text, "all") == encode(text), text
        if isinstance(ours, BPETokenizer):  # others may normalize
            assert ours.decode(ours.encode(text)) == text


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files before they are damaged."""
    folder = tmp_path_factory.mktemp("sound")
    plain = BPETokenizer(SMALL.merges, pattern="gpt2", special_tokens={"<|endoftext|>": 300})
    save_gpt2(plain, folder / "two")
    CharacterTokenizer.from_text(SAMPLE, special_tokens=["<|a|>"]).save(folder / "list")
    save_tiktoken(SMALL, folder / "some.tiktoken")
    return {file.name: file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a format; all examples use the same one."""
    made = {name: tmp_path_factory.mktemp(name) for name in _FORMATS}
    return made.__getitem__


@given(SEED)
@N
def test_tokenizer_json(damaged: Callable[[str], Path], seed: int) -> None:
    folder = damaged("json")
    draw = random.Random(seed)
    content = describe_bpe(SMALL)
    for _ in range(draw.choice([1, 1, 2])):
        content = mutate(content, draw)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    ours = read(folder)
    if ours is not None:
        try:
            theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception:
            return  # they are stricter
        compare(ours, lambda text: theirs.encode(text, add_special_tokens=False).ids)


def unknown_id(model: dict[str, Any]) -> int | None:
    """Return the id of text that a model cannot represent, which may be a special token."""
    if isinstance(model["vocab"], list):
        return model.get("unk_id")
    return model["vocab"].get(model.get("unk_token"))


@given(SEED)
@example(111_654_929_690)  # the unknown token is also a special one
@N
def test_foreign_tokenizer_json(damaged: Callable[[str], Path], seed: int) -> None:
    """Also the parts that only the library computes."""
    folder, draw = damaged("foreign"), random.Random(seed)
    content = mutate(KINDS[draw.choice(sorted(KINDS))], draw)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    ours = read(folder)
    if ours is None:
        return
    try:
        theirs = tokenizers.Tokenizer.from_file(str(path))
    except Exception:
        return
    for text in TEXTS:
        try:
            ids = theirs.encode(text, add_special_tokens=False).ids
        except Exception:
            with pytest.raises(UserError):
                ours.encode(text, "all")
            continue
        assert ours.encode(text, "all") == ids
        special = set(ours.special_tokens.values()) - {unknown_id(content["model"])}
        assert special.isdisjoint(ours.encode(text))
        ours.decode(ids)


@given(SEED)
@N
def test_two_files(sound: dict[str, bytes], damaged: Callable[[str], Path], seed: int) -> None:
    folder = damaged("two")
    draw = random.Random(seed)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes(sound[name])
    if draw.random() < 0.5:
        content = mutate(json.loads(sound["vocab.json"]), draw)
        (folder / "vocab.json").write_text(json.dumps(content), encoding="utf-8")
    else:
        (folder / "merges.txt").write_bytes(mutate_bytes(sound["merges.txt"], draw))
    ours = read(folder, pattern="gpt2")
    if ours is None:
        return
    try:
        files = [str(folder / name) for name in ("vocab.json", "merges.txt")]
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
    except Exception:
        return
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.add_special_tokens(list(ours.special_tokens))
    compare(ours, lambda text: theirs.encode(text).ids)


@given(SEED)
@N
def test_ranks(sound: dict[str, bytes], damaged: Callable[[str], Path], seed: int) -> None:
    folder = damaged("ranks")
    path = folder / "some.tiktoken"
    path.write_bytes(mutate_bytes(sound["some.tiktoken"], random.Random(seed)))
    ours = read(folder, pattern="gpt2")
    if ours is None:
        return
    parts = [line.split() for line in path.read_bytes().splitlines() if line]
    theirs = tiktoken.Encoding(
        "some",
        pat_str=ours.pattern,
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in parts},
        special_tokens=ours.special_tokens,
    )
    compare(ours, lambda text: theirs.encode(text, allowed_special="all"))


@given(SEED)
@N
def test_ladder_json(sound: dict[str, bytes], damaged: Callable[[str], Path], seed: int) -> None:
    folder = damaged("ladder")
    content = mutate(json.loads(sound["ladder.json"]), random.Random(seed))
    (folder / "ladder.json").write_text(json.dumps(content), encoding="utf-8")
    ours = read(folder)
    if isinstance(ours, CharacterTokenizer):
        names = [*content["tokens"], *content["special_tokens"]]
        assert ours.decode(range(len(names))) == "".join(names)
        for index, name in enumerate(names):
            assert ours.encode(name, "all") == [index]
