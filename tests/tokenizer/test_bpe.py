"""Byte-level BPE: no byte is lost, and the ids are those of the reference implementations."""

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from complexity import lines_run
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.text.builtin import python_reference
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.files import load_gpt2, load_tokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special import END_OF_TEXT, SPECIAL_TOKENS
from groundup.tokenizer.train_bpe import count_pretokens, learn_merges, train_bpe

# Random Unicode rarely contains what is difficult for tokenizers, so these are added often.
PIECES = ["the", " the", "'s", "'LL", " ", "  ", "\n", "\r\n", "\t", "123", "4567", "ß", "é"]
PIECES += ["e\u0301", "日本", "🙂", "👩\u200d👧", "\u00a0", "\u2028", "\x00", "<|endoftext|>"]
PIECES += ["_", "--", "\u017f", "\u01c5", "000000", "٣٤٥٦"]
# The libraries know different versions of Unicode: unassigned characters are left out.
ANY = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=8)
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), ANY), max_size=20).map("".join)


@cache
def reference_text() -> str:
    return "\n\n".join(document.text for document in python_reference())


@cache
def trained(pattern: str) -> BPETokenizer:
    return train_bpe([reference_text()[:100_000]], 700, pattern=pattern)


def gpt2_of(folder: Path) -> BPETokenizer:
    return load_gpt2(folder / "encoder.json", folder / "vocab.bpe")


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@given(text=TEXT)
@settings(deadline=None)
def test_no_byte_is_ever_lost(pattern: str, text: str) -> None:
    tokenizer = trained(pattern)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(index) for index in ids) == text.encode()


def test_the_verdict_in_gpt2_ids(gpt2_folder: Path, shared_data: Path) -> None:
    ids = gpt2_of(gpt2_folder).encode((shared_data / "the-verdict.txt").read_text(encoding="utf-8"))
    assert len(ids) == 5_145
    assert ids[:5] == [40, 367, 2885, 1464, 1807]


def tiktoken_of(folder: Path) -> Any:
    tiktoken = pytest.importorskip("tiktoken")
    vocabulary = json.loads((folder / "encoder.json").read_text())
    byte_of = {spelling: value for value, spelling in enumerate(byte_spelling())}
    ranks = {
        bytes(byte_of[c] for c in token): index
        for token, index in vocabulary.items()
        if token != END_OF_TEXT
    }
    return tiktoken.Encoding(
        "gpt2-from-file",
        pat_str=PATTERNS["gpt2"],
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: vocabulary[END_OF_TEXT]},
    )


@pytest.mark.parity
@pytest.mark.parametrize("folder", ["small_gpt2", "gpt2"])
def test_gpt2_ids_are_tiktokens(
    folder: str, fixtures: Path, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue(f"{folder}_folder")
    gpt2, tiktoken_gpt2 = gpt2_of(place), tiktoken_of(place)
    larger = [place.parent / file for file in ("the-verdict.txt", "tinyshakespeare.txt")]
    for file in (fixtures / "the-ferry.txt", *filter(Path.is_file, larger)):
        text = file.read_text(encoding="utf-8")[:200_000]
        assert gpt2.encode(text) == tiktoken_gpt2.encode(text, disallowed_special=())

    @given(TEXT)
    @settings(max_examples=300, deadline=None)
    def on_any_text(text: str) -> None:
        assert gpt2.encode(text) == tiktoken_gpt2.encode(text, disallowed_special=())
        assert gpt2.encode(text, "all") == tiktoken_gpt2.encode(text, allowed_special="all")

    on_any_text()


@pytest.mark.parity
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_a_saved_tokenizer_gives_the_same_ids_in_hugging_face(pattern: str, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ours = trained(pattern)
    ours.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == ours.fingerprint

    @given(TEXT)
    @settings(max_examples=300, deadline=None)
    def on_any_text(text: str) -> None:
        # Hugging Face always reads special tokens in a text as special.
        ids = ours.encode(text, "all")
        assert theirs.encode(text, add_special_tokens=False).ids == ids
        assert again.encode(text, "all") == ids

    on_any_text()


@pytest.mark.parity
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_hugging_faces_trainer_learns_the_same_merges(pattern: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = reference_text()
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + 1500,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    theirs.train_from_iterator([text], trainer)
    byte_of = {spelling: value for value, spelling in enumerate(byte_spelling())}
    merges = [
        tuple(bytes(byte_of[c] for c in token) for token in pair)
        for pair in json.loads(theirs.to_str())["model"]["merges"]
    ]
    ours = train_bpe([text], 256 + 1500, pattern=pattern, special_tokens=())
    table = ours.token_table
    assert [(table[a], table[b]) for a, b in ours.merges] == merges


def test_training_breaks_ties_by_the_printable_order_of_the_bytes() -> None:
    # "ab" and "cd" both occur twice, as do the newline and the space between them.
    merges = train_bpe(["cd ab", "ab cd"], 256 + 1, special_tokens=()).merges
    assert merges == [(ord("a"), ord("b"))]


def test_a_merge_does_not_pass_over_all_words() -> None:
    text = reference_text()
    few, many = (count_pretokens([text[:n]], "gpt4") for n in (20_000, 200_000))
    assert len(many) > 3 * len(few)
    assert len(learn_merges(many, 243)) == 243
    small, large = (lines_run(partial(learn_merges, words, 243)) for words in (few, many))
    assert large < 1.5 * small  # more words are longer arrays, not more work in Python


def test_a_word_of_a_megabyte_is_encoded_in_linear_time() -> None:
    tokenizer = train_bpe(["a" * 5000], 300)
    small, large = (lines_run(partial(tokenizer.encode, "a" * n)) for n in (10_000, 40_000))
    assert large < 5 * small  # quadratic: 16 times as many for four times the length
    assert tokenizer.decode(tokenizer.encode("a" * 1_000_000)) == "a" * 1_000_000


def test_a_long_word_and_a_short_one_are_merged_alike() -> None:
    tokenizer = trained("gpt4")
    for word in ("thestatement" * 30, "a" * 200, "xyzzy" * 40):
        ids = [tokenizer._byte_ids[b] for b in word.encode()]
        slow = list(ids)
        while True:
            ranks = [tokenizer._rank.get(p, 10**9) for p in zip(slow, slow[1:], strict=False)]
            if not ranks or min(ranks) == 10**9:
                break
            at = ranks.index(min(ranks))
            slow[at : at + 2] = [tokenizer._made[min(ranks)]]
        assert tokenizer._merge_long(list(ids)) == slow


def test_special_tokens_in_a_users_text_are_text() -> None:
    tokenizer = trained("gpt4")
    special = set(tokenizer.special_tokens.values())
    text = "".join(SPECIAL_TOKENS)
    assert not special & set(tokenizer.encode(text))
    assert tokenizer.encode(text, "all") == list(tokenizer.special_tokens.values())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_longest_special_token_wins() -> None:
    tokenizer = BPETokenizer([], special_tokens={"<a>": 256, "<a><b>": 257, "<b>": 258})
    assert tokenizer.encode("<a><b><a>", "all") == [257, 256]
    assert tokenizer.encode("<a><b>", {"<b>"}) == [60, 97, 62, 258]


def test_unknown_specials_and_ids_are_errors() -> None:
    tokenizer = trained("gpt4")
    with pytest.raises(UserError, match="<x>"):
        tokenizer.encode("text", {"<x>"})
    with pytest.raises(UserError, match="id 700"):
        tokenizer.decode([700])


@pytest.mark.parametrize(
    ("texts", "vocab_size", "words"), [([], 300, "no text"), (["text"], 200, "vocab_size=1024")]
)
def test_nothing_to_train_on_is_refused(texts: list[str], vocab_size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        train_bpe(texts, vocab_size)
