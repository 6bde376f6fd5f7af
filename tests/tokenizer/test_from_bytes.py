"""A tokenizer from tokens and merges as bytes, as students and tiktoken hold them."""

import pytest

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.round_trip import CANARY
from groundup.tokenizer.train_bpe import train_bpe

TEXT = "the cat sat on the mat. The cat's 12 mats!"
TRAINED = train_bpe([TEXT] * 3, 290, pattern="gpt2", special_tokens=())
MERGES = [(TRAINED.token_table[a], TRAINED.token_table[b]) for a, b in TRAINED.merges]
# As in CS336: the special token first, then the bytes, then the merges.
VOCAB = dict(enumerate([b"<|endoftext|>", *TRAINED.token_table]))


def test_the_ids_are_those_of_the_vocabulary(tmp_path) -> None:
    made = BPETokenizer.from_bytes(VOCAB, MERGES, ["<|endoftext|>"])
    assert made.encode(TEXT) == [index + 1 for index in TRAINED.encode(TEXT)]
    assert made.encode("<|endoftext|>a", "all") == [0, 98]
    made.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == made.fingerprint
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(f"{TEXT}<|endoftext|>a").ids == made.encode(f"{TEXT}<|endoftext|>a", "all")


def test_special_tokens_outside_of_the_vocabulary_come_after_it() -> None:
    names = ["<|a|>", "<|endoftext|>", "<|endoftext|><|endoftext|>"]
    made = BPETokenizer.from_bytes(VOCAB, MERGES, [*names, names[0]])
    n = len(VOCAB)
    assert made.special_tokens == dict(zip(names, [n, 0, n + 1], strict=True))
    # The longest special token wins.
    assert made.encode("<|endoftext|>" * 3, "all") == [n + 1, 0]
    assert BPETokenizer.from_bytes(VOCAB, MERGES).special_tokens == {}


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ({0: b"a"}, [], r"no token for 255 of the 256 bytes, first for byte 0"),
        (VOCAB, [(b"q", b"zz")], r"Merge 0 is .*A pair of tokens"),
        (VOCAB, [(b"q", b"z")], r"Merge 0 makes b'qz', which is not an ordinary token"),
        (VOCAB | {10**12: b"qz"}, [], r"ids from 0 to 1000000000000"),
        (VOCAB | {-1: b"qz"}, [], r"ids from -1"),
        (VOCAB | {len(VOCAB): b"a"}, [], r"The ids \d+ and \d+ have the same token b'a'"),
    ],
)
def test_what_is_no_vocabulary_is_refused(vocab, merges, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BPETokenizer.from_bytes(vocab, merges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"merges": [(1, 900)]}, r"Merge 0 is \(1, 900\)"),
        ({"merges": [(-1, 5)]}, r"Merge 0 is \(-1, 5\)"),
        ({"merges": [], "special_tokens": {"<x>": 10**12}}, "ids of the special tokens"),
        ({"merges": [], "special_tokens": {"<x>": -1}}, "ids of the special tokens"),
        ({"merges": [], "special_tokens": {"<x>": 97}}, "no token for 1 of the 256 bytes.*b'a'"),
        ({"merges": [(97, 98)], "special_tokens": {"<x>": 256}}, "Merge 0 makes b'ab'"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BPETokenizer(**arguments)


def with_a_hole() -> BPETokenizer:
    moved = {index + (index > 100): token for index, token in VOCAB.items()}
    return BPETokenizer.from_bytes(moved, MERGES, ["<|endoftext|>", "<|b|>"])


def test_an_id_without_a_token_stays_one(tmp_path) -> None:
    made = with_a_hole()
    assert made.token_bytes(101) == b""
    made.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == made.fingerprint
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(f"{TEXT}<|b|>").ids == made.encode(f"{TEXT}<|b|>", "all")


@pytest.mark.parametrize(
    "made", [BPETokenizer.from_bytes(VOCAB, MERGES, ["<|endoftext|>"]), with_a_hole()]
)
def test_the_fast_encoder_gives_the_same_ids(made: BPETokenizer) -> None:
    for text in (TEXT, CANARY):
        assert fast_encoder(made)(text).tolist() == made.encode(text)


def test_a_special_token_written_like_an_ordinary_one_is_not_saved(tmp_path) -> None:
    """In a tokenizer.json both would be the same token."""
    made = BPETokenizer(TRAINED.merges, special_tokens={"the": len(TRAINED.token_table)})
    assert made.decode(made.encode("the", "all")) == "the"
    with pytest.raises(UserError, match=r"'the' \(id \d+\) is written like the ordinary token"):
        made.save(tmp_path / "t")
    assert not (tmp_path / "t").exists()
