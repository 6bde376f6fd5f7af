"""Character and word tokenizers: what they keep, what they lose, the roadmap's numbers."""

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


def test_special_tokens_of_words_are_text_unless_allowed() -> None:
    tokenizer = WordTokenizer.from_text("a b")
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
