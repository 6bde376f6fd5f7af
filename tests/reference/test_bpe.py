"""The fast BPE gives the merges and ids of the slow one."""

import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.reference.bpe import encode, learn
from groundup.text.builtin import python_reference
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.train_bpe import train_bpe

TEXT = st.text(st.sampled_from("aab ,\n12é"), max_size=60)


def pretokens(text: str) -> list[bytes]:
    return [part.encode() for part in regex.findall(PATTERNS["gpt4"], text)]


@given(TEXT, st.integers(0, 12))
@settings(deadline=None)
def test_the_same_merges_are_learned(text: str, n_merges: int) -> None:
    text += "x"
    fast = train_bpe([text], 256 + n_merges, special_tokens=())
    assert fast.merges == learn(pretokens(text), n_merges)


@given(TEXT, TEXT)
@settings(deadline=None)
def test_the_same_ids_come_out(train_text: str, text: str) -> None:
    merges = learn(pretokens(train_text), 12)
    fast = BPETokenizer(merges, special_tokens={})
    assert fast.encode(text) == [i for part in pretokens(text) for i in encode(part, merges)]


def test_on_real_text() -> None:
    text = next(iter(python_reference())).text
    merges = learn(pretokens(text), 80)
    fast = train_bpe([text], 256 + 80, special_tokens=())
    assert fast.merges == merges
    assert fast.encode(text) == [i for part in pretokens(text) for i in encode(part, merges)]
