"""Character and word tokenizers: what they keep, what they lose, the roadmap's numbers."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.special import END_OF_TEXT
from groundup.tokenizer.words import UNKNOWN, WordTokenizer, split_words


@given(st.text())
def test_characters_come_back(text: str) -> None:
    tokenizer = CharacterTokenizer.from_text(text + "x")
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_an_unseen_character_is_an_error_that_names_it() -> None:
    with pytest.raises(UserError, match="'z'"):
        CharacterTokenizer.from_text("abc").encode("az")


def test_a_story_in_words(fixtures: Path) -> None:
    text = (fixtures / "the-ferry.txt").read_text(encoding="utf-8")
    words = split_words(text)
    assert "".join(words) == "".join(text.split())
    tokenizer = WordTokenizer.from_text(text)
    assert set(tokenizer.words) == set(words)
    assert UNKNOWN not in tokenizer.decode(tokenizer.encode(text))


def test_the_verdict_in_words(shared_data: Path) -> None:
    text = (shared_data / "the-verdict.txt").read_text(encoding="utf-8")
    assert len(text) == 20_479
    assert len(split_words(text)) == 4_690
    tokenizer = WordTokenizer.from_text(text)
    assert len(tokenizer.words) == 1_130
    assert tokenizer.vocab_size == 1_132
    assert UNKNOWN not in tokenizer.decode(tokenizer.encode(text))


def test_words_lose_white_space_and_what_they_never_saw() -> None:
    tokenizer = WordTokenizer.from_text("the cat, the mat")
    assert tokenizer.decode(tokenizer.encode("the\n  dog,the mat")) == "the <|unk|>, the mat"


@pytest.mark.parametrize("text", ["a b", f"a {END_OF_TEXT} b {UNKNOWN}"])
def test_special_tokens_of_words_are_text_unless_allowed(text: str, tmp_path: Path) -> None:
    tokenizer = WordTokenizer.from_text(text)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert tokenizer.encode(f"a {END_OF_TEXT} b", {END_OF_TEXT}).count(end) == 1
    assert end not in tokenizer.encode(f"a {END_OF_TEXT} b")


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_saved_and_loaded(
    kind: type[CharacterTokenizer] | type[WordTokenizer], tmp_path: Path
) -> None:
    tokenizer = kind.from_text("one\ntwo three\u2028 four")
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("two\nfour") == tokenizer.encode("two\nfour")


def test_words_without_special_tokens(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.from_text("a cat, a mat", special_tokens=())
    tokenizer.save(tmp_path)
    for each in (tokenizer, load_tokenizer(tmp_path)):
        assert each.vocab_size == 4
        assert each.decode(each.encode("a mat, a cat")) == "a mat, a cat"
        with pytest.raises(UserError, match=r"The word 'dog' was not in the training text.*<\|unk"):
            each.encode("a dog")
    ended = WordTokenizer.from_text("a", special_tokens=["<|endoftext|>"])
    assert ended.encode("a<|endoftext|>", "all") == [0, 1]
    assert CharacterTokenizer.from_text("ab", special_tokens=()).encode("ba") == [1, 0]


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
@pytest.mark.parametrize("index", [-1, 3, 10**12])
def test_ids_that_do_not_exist_are_errors(
    kind: type[CharacterTokenizer] | type[WordTokenizer], index: int
) -> None:
    tokenizer = kind.from_text("a b", special_tokens=[UNKNOWN] if kind is WordTokenizer else [])
    for use in (lambda: tokenizer.decode([index]), lambda: tokenizer.token_bytes(index)):
        with pytest.raises(UserError, match=rf"no token with id {index}. An id from 0 to 2"):
            use()


def test_characters_are_single() -> None:
    with pytest.raises(UserError, match="'ab' is among the characters"):
        CharacterTokenizer(["a", "ab"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "syllables"}, r'kind is "syllables"\. "characters" or "words" is expected'),
        ({"kind": None}, "kind is null"),
        ({"version": 2}, "version is 2"),
        ({"tokens": "ab"}, 'tokens is "ab"'),
        ({"tokens": ["a", 1]}, r"tokens\[1\] is 1"),
        ({"tokens": ["a", "a"]}, r"tokens\[1\] is \"a\""),
        ({"tokens": ["ab"]}, r"tokens\[0\] is \"ab\""),
        ({"tokens": [""]}, r"tokens\[0\] is"),
        ({"special_tokens": {"a": 1}}, "special_tokens is"),
        ({"special_tokens": ["a"]}, "special_tokens is .*Names other than 'a'"),
        ({"more": 1}, "more is not supported"),
    ],
)
def test_a_ladder_file_that_is_none(tmp_path: Path, change: dict, message: str) -> None:
    content = {"version": 1, "kind": "characters", "tokens": ["a"], "special_tokens": ["<x>"]}
    (tmp_path / "ladder.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=rf"ladder\.json: .*{message}"):
        load_tokenizer(tmp_path)
