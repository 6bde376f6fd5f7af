"""A tokenizer's fingerprint changes with everything that decides the ids."""

import pytest

from groundup.tokenizer.bpe import BPETokenizer

MERGES = [(104, 105), (256, 33)]


def tokenizer(**changes) -> BPETokenizer:
    usual = {"merges": MERGES, "pattern": "gpt4", "special_tokens": {"<|endoftext|>": 258}}
    return BPETokenizer(**{**usual, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"merges": [(104, 105), (105, 33)]},
        {"pattern": "gpt2"},
        {"special_tokens": {"<|end|>": 258}},
        {"special_tokens": {"<|endoftext|>": 259}},
    ],
)
def test_another_tokenizer_has_another_fingerprint(changes) -> None:
    assert tokenizer().fingerprint == tokenizer().fingerprint
    assert tokenizer(**changes).fingerprint != tokenizer().fingerprint
