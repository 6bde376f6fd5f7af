"""Training: the merges of independent trainers, for both conventions of ties."""

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from inspect import unwrap

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.reference.bpe import learn
from groundup.tokenizer.pretokens import PATTERNS, splitter
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.train_bpe import count_pretokens, learn_merges, train_bpe

Merges = list[tuple[bytes, bytes]]
PIECES = ["aab", "ab", " b", "aa", " aa", "é", "\x80", "\u0100", "z", " 12", "\n", ".", "<|x|>"]
PIECES += ["<|", "|>", "x", "日", "日本"]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), max_size=4)
SPECIAL = ["<|x|>", "<|x|><|x|>"]


def train_as_in_a_course(texts: list[str], n_merges: int, special: list[str]) -> Merges:
    """CS336, assignment 1, in its simplest form: counts from scratch for every merge."""
    words: Counter[tuple[bytes, ...]] = Counter()
    for text in texts:
        for part in regex.split("|".join(regex.escape(name) for name in special), text):
            for found in regex.finditer(PATTERNS["gpt2"], part):
                words[tuple(bytes([byte]) for byte in found.group().encode())] += 1
    merges: Merges = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        merged: Counter[tuple[bytes, ...]] = Counter()
        for word, count in words.items():
            made: list[bytes] = []
            for token in word:
                if made and (made[-1], token) == best and made[-1] is not None:
                    made[-1] += token
                else:
                    made.append(token)
            merged[tuple(made)] += count
        words = merged
    return merges


def train_as_tokenizers(texts: list[str], n_merges: int, pattern: str) -> Merges:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    pre = tokenizers.pre_tokenizers
    cut = pre.Split(tokenizers.Regex(pattern), "isolated")
    # tokenizers does not look for special tokens in the texts to train on: here they are left out.
    named = pre.Split(tokenizers.Regex(r"(?:<\|x\|>)+"), "removed")
    byte_level = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = pre.Sequence([named, cut, byte_level])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + n_merges, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    byte_of = {spelling: value for value, spelling in enumerate(byte_spelling())}
    return [
        (bytes(byte_of[c] for c in left), bytes(byte_of[c] for c in right))
        for left, right in json.loads(model.to_str())["model"]["merges"]
    ]


def merges_of(texts: list[str], n_merges: int, **arguments) -> Merges:
    made = train_bpe(
        [*texts, "."], 256 + len(SPECIAL) + n_merges, special_tokens=SPECIAL, min_count=1,
        **arguments,
    )  # fmt: skip
    return [(made.token_table[a], made.token_table[b]) for a, b in made.merges]


@given(TEXTS, st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_greatest_bytes_are_those_of_a_course(texts: list[str], n_merges: int) -> None:
    ours = merges_of(texts, n_merges, ties="greatest-bytes", pattern="gpt2")
    assert ours == train_as_in_a_course(texts, n_merges, SPECIAL)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", r"\p{L}+", r"\d*"])
@given(texts=TEXTS, n_merges=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_lowest_ids_are_those_of_tokenizers(pattern: str, texts: list[str], n_merges: int) -> None:
    ours = merges_of(texts, n_merges, pattern=pattern)
    assert ours == train_as_tokenizers(texts, n_merges, PATTERNS.get(pattern, pattern))


@pytest.mark.parametrize("ties", ["lowest-id", "greatest-bytes"])
@given(texts=TEXTS, n_merges=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_the_simplest_form_learns_the_same(ties, texts: list[str], n_merges: int) -> None:
    pretokens = [part.encode() for text in texts for part in splitter("gpt4")(text)]
    made = train_bpe([*texts, "."], 256 + n_merges, special_tokens=(), ties=ties)
    assert made.merges == learn(pretokens, n_merges, ties)


def test_the_example_of_the_course() -> None:
    """Of the pairs (A, B), (A, C), (B, ZZ) and (BA, A) the greatest one is (BA, A)."""
    merges = train_bpe(["low lower"], 257, special_tokens=(), ties="greatest-bytes").merges
    assert merges == [(ord("o"), ord("w"))]
    made = train_bpe(["BAA", "BZZ"] * 2, 258, special_tokens=(), ties="greatest-bytes")
    assert [made.token_table[256], made.token_table[257]] == [b"ZZ", b"BZZ"]


def test_no_merge_is_inside_a_special_token_or_across_its_edge() -> None:
    texts = ["a<|endoftext|>" * 50, "<|end|>" * 50]
    tokenizer = train_bpe(texts, 400)
    assert tokenizer.merges == []
    inside = train_bpe(texts, 400, special_tokens=())
    assert len(inside.merges) > 10
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]


def test_ties_change_the_merges_only_where_there_are_some() -> None:
    few = train_bpe(["cd ab", "ab cd"], 257, special_tokens=(), ties="greatest-bytes")
    assert few.merges == [(ord("c"), ord("d"))]


@pytest.mark.parametrize(
    ("texts", "vocab_size", "special", "message"),
    [
        ("a text", 300, (), r"texts is a str\. A list or other iterable of strings .*\[text\]"),
        (b"a text", 300, (), "texts is a bytes"),
        (None, 300, (), "texts is a NoneType"),
        (3, 300, (), "texts is a int"),
        (iter(["a", 3]), 300, (), r"Text 1 is a int\. A string is expected"),
        (iter([["a"]]), 300, (), "Text 0 is a list"),
        (iter([b"a"]), 300, (), "Text 0 is a bytes"),
        (["a"], 300.0, (), r"vocab_size is 300\.0"),
        (["a"], "300", (), "vocab_size is '300'"),
        (["a"], True, (), "vocab_size is True"),
        (["a"], None, (), "vocab_size is None"),
        (["a"], 300, "<|x|>", "special_tokens is a string"),
    ],
)
def test_wrong_types_are_type_errors(texts, vocab_size, special, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        unwrap(train_bpe)(texts, vocab_size, special_tokens=special)


@pytest.mark.parametrize("special", [[""], ["<a>", "<a>"]])
def test_special_tokens_that_are_none(special: list[str]) -> None:
    with pytest.raises(UserError, match="Different, non-empty names are expected"):
        train_bpe(["a"], 300, special_tokens=special)


def test_texts_may_be_anything_that_is_iterated() -> None:
    def stream() -> Iterator[str]:
        yield from ("the cat", "the cat")

    tokenizer = train_bpe(stream(), 300)
    assert tokenizer.merges == train_bpe(("the cat", "the cat"), 300).merges
    assert tokenizer.vocab_size == 256 + len(tokenizer.merges) + 4


def test_a_vocabulary_may_be_larger_than_the_text_allows() -> None:
    text = "the cat sat on the mat, the cat sat"
    large = train_bpe([text], 2**62)
    assert large.merges == train_bpe([text], 1000).merges
    assert large.vocab_size < 300
    assert len(train_bpe([text], 2**62, ties="greatest-bytes").merges) == len(large.merges)


def test_large_counts_and_large_vocabularies_change_no_merge() -> None:
    """Counts, and numbers of pairs, that need 8 bytes."""
    counts = count_pretokens(["low low lower newest widest " * 3], "gpt4", ())
    expected = learn_merges(counts, 12)
    large = Counter({word: n << 33 for word, n in counts.items()})
    assert learn_merges(large, 12) == expected
    draw = random.Random(0)
    large.update({bytes(draw.choices(range(128, 256), k=80)): 1 for _ in range(600)})
    assert 2**31 < (256 + 600 * 79) ** 2
    assert learn_merges(large, 10**6, min_count=1 << 33)[:12] == expected


def test_memory_for_each_byte_of_the_distinct_words() -> None:
    draw = random.Random(0)
    counts = Counter({bytes(draw.choices(range(16), k=40)): 2 for _ in range(5000)})
    tracemalloc.start()
    learn_merges(counts, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 5000 * 41  # with 8 bytes for each number it is 86
