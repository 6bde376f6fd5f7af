"""Token stores that no longer belong to what is beside them."""

import json
import random
from pathlib import Path

import pytest
from small_runs import WORDS

from groundup.base.errors import UserError
from groundup.data.config import PrepareAndEncodeConfig, VerifyConfig
from groundup.data.pipeline import prepare_and_encode
from groundup.data.store import TokenStore
from groundup.data.verify import verify
from groundup.tokenizer.train_bpe import train_bpe


def documents(path: Path, seeds: range) -> str:
    rows = (" ".join(random.Random(seed).choices(WORDS, k=60)) for seed in seeds)
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return str(path)


def tokenizer(folder: Path, text: str) -> Path:
    train_bpe([text], 280).save(folder)
    return folder


def ids(data: Path) -> list[int]:
    store = TokenStore.open(data / "train")
    return store.read(0, store.n_tokens).tolist()


def test_tokens_of_another_tokenizer_are_not_verified(tmp_path: Path) -> None:
    data = tmp_path / "data"
    source = documents(tmp_path / "a.jsonl", range(30))
    prepare_and_encode(
        PrepareAndEncodeConfig(
            sources=(source,), out=data, tokenizer=tokenizer(tmp_path / "one", "fox fox fox fox")
        )
    )
    assert len(verify(VerifyConfig(data=data)).parts) == 3
    train_bpe(["oak oak oak oak"], 280).save(data / "tokenizer")
    with pytest.raises(UserError, match="a different tokenizer"):
        verify(VerifyConfig(data=data))


def test_the_store_of_another_text_is_replaced(tmp_path: Path) -> None:
    """The second text is longer, so its length alone does not show that it is another one."""
    one = tokenizer(tmp_path / "one", "fox fox fox fox")
    first = documents(tmp_path / "a.jsonl", range(30))
    second = documents(tmp_path / "b.jsonl", range(100, 190))
    data, fresh = tmp_path / "data", tmp_path / "fresh"
    prepare_and_encode(PrepareAndEncodeConfig(sources=(first,), out=data, tokenizer=one))
    prepare_and_encode(
        PrepareAndEncodeConfig(sources=(second,), out=data, tokenizer=one, overwrite=True)
    )
    prepare_and_encode(PrepareAndEncodeConfig(sources=(second,), out=fresh, tokenizer=one))
    assert ids(data) == ids(fresh)


def test_a_damaged_store_is_made_again_before_it_is_appended_to(tmp_path: Path) -> None:
    one = tokenizer(tmp_path / "one", "fox fox fox fox")
    first = documents(tmp_path / "a.jsonl", range(30))
    second = documents(tmp_path / "b.jsonl", range(100, 130))
    data = tmp_path / "data"
    prepare_and_encode(PrepareAndEncodeConfig(sources=(first,), out=data, tokenizer=one))
    shard = data / "train" / "tokens-00000.bin"
    sound = shard.read_bytes()
    shard.write_bytes(sound[:20] + bytes([sound[20] ^ 1]) + sound[21:])
    prepare_and_encode(PrepareAndEncodeConfig(sources=(second,), out=data, append=True))
    assert len(verify(VerifyConfig(data=data)).parts) == 3
    assert shard.read_bytes()[:20] == sound[:20]
