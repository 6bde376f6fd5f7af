"""The tokenizer's adapters, against the algorithm of the handout written plainly."""

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import regex
import tiktoken

from groundup import cs336
from groundup.base.errors import UserError
from groundup.cs336 import tokenizer as module
from groundup.tokenizer.save import byte_spelling

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
END = "<|endoftext|>"
TEXT = (
    "low low low low low lower lower widest widest widest newest newest newest newest newest "
    f"newest{END}Die Würde des Menschen ist unantastbar. 日本語 日本語 🙃🙃 \n\n  end{END}\n low"
)


def train(text: str, n_merges: int, special_tokens: list[str]) -> list[tuple[bytes, bytes]]:
    """Merge the most frequent pair, and of several the greatest, while there is one."""
    parts = [text]
    if special_tokens:
        longest_first = sorted(special_tokens, key=len, reverse=True)
        parts = regex.split("|".join(map(regex.escape, longest_first)), text)
    words = Counter(
        tuple(bytes([byte]) for byte in word.encode())
        for part in parts
        for word in regex.findall(GPT2, part)
    )
    merges = []
    for _ in range(n_merges):
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
            merged[apply(word, best)] += count
        words = merged
    return merges


def apply(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    new: list[bytes] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            new.append(pair[0] + pair[1])
            i += 2
        else:
            new.append(word[i])
            i += 1
    return tuple(new)


def encode(text: str, vocab: dict[int, bytes], merges: list[tuple[bytes, bytes]]) -> list[int]:
    id_of = {token: index for index, token in vocab.items()}
    ids = []
    for word in regex.findall(GPT2, text):
        parts = tuple(bytes([byte]) for byte in word.encode())
        for pair in merges:
            parts = apply(parts, pair)
        ids += [id_of[part] for part in parts]
    return ids


@pytest.mark.parametrize("special_tokens", [[], [END], [END, "low", "<|x|>"]])
@pytest.mark.parametrize("chunk", [7, 2**22])
def test_training_equals_the_handout(
    special_tokens: list[str], chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_CHARACTERS", chunk)
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    size = 256 + len(special_tokens) + 20
    vocab, merges = cs336.run_train_bpe(
        input_path=tmp_path / "a.txt", vocab_size=size, special_tokens=special_tokens
    )
    assert merges == train(TEXT, 20, special_tokens)
    assert list(vocab) == list(range(size))
    names = [name.encode() for name in special_tokens]
    tokens = names + [bytes([i]) for i in range(256)] + [a + b for a, b in merges]
    assert list(vocab.values()) == tokens
    tokenizer = cs336.get_tokenizer(vocab, merges, special_tokens)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_training_on_random_words_with_many_ties(tmp_path: Path) -> None:
    draw = random.Random(5)
    for round_number in range(10):
        words = ["".join(draw.choices("abü ", k=draw.randint(1, 6))) for _ in range(60)]
        text = "".join(words) + END + "".join(words[:9])
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
        _, merges = cs336.run_train_bpe(str(tmp_path / "a.txt"), 256 + 1 + 30, [END])
        assert merges == train(text, 30, [END]), round_number


def test_encoding_equals_the_handout(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    vocab, merges = cs336.run_train_bpe(tmp_path / "a.txt", 256 + 1 + 25, [END])
    tokenizer = cs336.get_tokenizer(vocab, merges, [END])
    text = "The lowest würde is newest.\n\n  日本 end"
    assert tokenizer.encode(text) == encode(text, vocab, merges)
    end = next(index for index, token in vocab.items() if token == END.encode())
    assert tokenizer.encode(f"{text}{END}low") == [
        *encode(text, vocab, merges), end, *encode("low", vocab, merges)
    ]  # fmt: skip
    assert tokenizer.encode("") == []


def test_overlapping_special_tokens_and_new_ones() -> None:
    vocab = {i: bytes([i]) for i in range(256)}
    tokenizer = cs336.get_tokenizer(vocab, [], [END, END + END])
    assert tokenizer.encode(f"a{END}{END}b{END}") == [97, 257, 98, 256]
    plain = cs336.get_tokenizer(vocab, [])
    assert plain.encode(END) == list(END.encode())


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_encode_iterable_is_lazy_and_equals_encode(cut: int) -> None:
    vocab = {i: bytes([i]) for i in range(256)} | {256: b"lo", 257: b"low", 258: b" low"}
    merges = [(b"l", b"o"), (b"lo", b"w"), (b" ", b"low")]
    tokenizer = cs336.get_tokenizer(vocab, merges, [END])
    pieces = [TEXT[i : i + cut] for i in range(0, len(TEXT), cut)]
    assert list(tokenizer.encode_iterable(pieces)) == tokenizer.encode(TEXT)

    def endless() -> Iterator[str]:
        while True:
            yield TEXT

    ids = tokenizer.encode_iterable(endless())
    assert [next(ids) for _ in range(50)] == tokenizer.encode(TEXT)[:50]


@pytest.mark.slow
def test_encode_iterable_holds_less_than_a_megabyte(tmp_path: Path) -> None:
    draw = random.Random(1)
    with (tmp_path / "a.txt").open("w", encoding="utf-8") as file:
        for _ in range(4000):  # 100,000 different words
            words = ["".join(draw.choices("abcdefgh", k=6)) for _ in range(25)]
            file.write(" ".join(words) + "\n")
    vocab = {i: bytes([i]) for i in range(256)} | {256: b"ab"}
    tokenizer = cs336.get_tokenizer(vocab, [(b"a", b"b")], [END])
    list(tokenizer.encode_iterable(["warm up\n"] * 3))
    with (tmp_path / "a.txt").open(encoding="utf-8") as file:
        tracemalloc.start()
        n_ids = sum(1 for _ in tokenizer.encode_iterable(file))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert n_ids > 500_000
    assert peak_bytes < 1_000_000


def test_gpt2_equals_tiktoken(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "gpt2-tokenizer"
    tokenizer = cs336.Tokenizer.from_files(
        folder / "encoder.json", folder / "vocab.bpe", special_tokens=[END]
    )
    ranks = {}
    spelled = {letter: byte for byte, letter in enumerate(byte_spelling())}
    for token, index in json.loads((folder / "encoder.json").read_text("utf-8")).items():
        if token != END:
            ranks[bytes(spelled[letter] for letter in token)] = index
    theirs = tiktoken.Encoding(
        "gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={END: 50256}
    )
    verdict = (shared_data / "the-verdict.txt").read_text("utf-8")
    for text in ("", "s", "🙃", "Hello, how are you?", TEXT, verdict[:20_000]):
        wanted = theirs.encode(text, allowed_special="all")
        assert tokenizer.encode(text) == wanted
        assert tokenizer.decode(wanted) == text
        assert list(tokenizer.encode_iterable(text.splitlines(keepends=True))) == wanted


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ("[]", "", "A JSON table"),
        ('{"a": "x"}', "", "The id of 'a' is 'x'"),
        ('{"a": -1}', "", "The id of 'a' is -1"),
        ('{"日": 0}', "", "spells no byte"),
        ("{}", "a b c\n", ":1: Two tokens"),
        ("{}", "#version: 0.2\n\na 日\n", ":3: The token '日'"),
    ],
)
def test_wrong_files_are_refused(
    vocabulary: str, merges: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        cs336.Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match="merges cannot be read"):
        cs336.Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "absent.txt")
    with pytest.raises(UserError, match="cannot be read"):
        cs336.run_train_bpe(tmp_path / "absent.txt", 300, [])
