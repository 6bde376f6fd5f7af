"""Items in the training set are found: by words, across blocks, and never across documents."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import write_corpus

from groundup.base.errors import UsageError
from groundup.data.store import TokenStore
from groundup.evaluation.tasks import contamination
from groundup.evaluation.tasks.contamination import find_contamination, words_of
from groundup.text.documents import Document
from groundup.text.prepare import prepare
from groundup.tokenizer.train_bpe import train_bpe

TRAIN = [
    "Once upon a time, in a SMALL village, there lived a girl who could not sleep at night.",
    "The capital of France is Paris. The capital of Japan is Tokyo.",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a corpus and, made from it, a token store."""
    folder = tmp_path_factory.mktemp("data")
    lines = [json.dumps({"text": text}) + "\n" for text in [*TRAIN * 1, "other words " * 30]]
    (folder / "texts.jsonl").write_text("".join(lines))
    prepare(
        sources=[str(folder / "texts.jsonl")], out=folder / "data", audit=False, seed=2,
        validation_frac=0.01,
    )  # fmt: skip
    return folder / "data"


def test_a_run_of_words_is_found_without_case_and_punctuation(data):
    found = find_contamination(
        [
            "In a small village there lived a GIRL: why?",
            "In a small village there lived a boy.",
            "paris the capital",
            "time",
        ],
        [data],
        n=5,
    )
    assert found.is_found == (True, True, False, False)
    assert found.n_short == 2
    assert found.n_found == 2
    assert find_contamination(["a small village there lived a boy"], [data], n=7).n_found == 0


def test_runs_do_not_cross_documents(data):
    text = "could not sleep at night The capital of France"
    assert find_contamination([text], [data], n=6).n_found == 0
    assert find_contamination([text], [data], n=5).n_found == 1


def test_every_text_of_a_mixture_is_searched_and_runs_do_not_cross_them(data, tmp_path):
    other = tmp_path / "other"
    write_corpus(other, [Document("a", "the end of a road")], [])
    items = ["of a ROAD", "a girl who", "of a house", "road in a"]
    found = find_contamination(items, [other, data], n=3)
    assert found.is_found == (True, True, False, False)


def brute(texts, documents, n):
    runs = {
        tuple(words[i : i + n])
        for words in map(words_of, documents)
        for i in range(len(words) - n + 1)
    }
    found = []
    for text in texts:
        words = words_of(text)
        found.append(any(tuple(words[i : i + n]) in runs for i in range(len(words) - n + 1)))
    return tuple(found)


some_text = st.lists(st.sampled_from(["a", "bc", "d", "e.", "F-g"]), max_size=30).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(some_text, min_size=1, max_size=5),
    st.lists(some_text, min_size=1, max_size=5),
    st.integers(2, 5),
    st.sampled_from([1, 4, 1000]),
    st.integers(1, 9),
)
def test_blocks_and_chunks_change_nothing(texts, documents, n, block, chunk):
    def chunks(data, tokenizer):
        for document in documents:
            yield None
            yield from (document[i : i + chunk] for i in range(0, len(document), chunk))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "_BLOCK_WORDS", block)
        patch.setattr(contamination, "_texts", chunks)
        found = find_contamination(texts, [Path("data")], n=n)
    assert found.is_found == brute(texts, documents, n)


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_a_token_store_is_decoded(tmp_path, monkeypatch, block):
    text = "naïve café über alles, und noch mehr Wörter für das Straßencafé in München"
    tokenizer = train_bpe([text], 270)
    TokenStore.build(
        tmp_path / "train",
        [tokenizer.encode(text)],
        vocab_size=tokenizer.vocab_size,
        tokenizer_fingerprint=tokenizer.fingerprint,
        end_of_text=None,
    )
    monkeypatch.setattr(contamination, "_BLOCK_TOKENS", block)
    items = ["Für das STRASSENCAFÉ in münchen", "für das Café in München"]
    found = find_contamination(items, [tmp_path], n=5, tokenizer=tokenizer)
    assert found.is_found == (True, False)
    other = train_bpe([TRAIN[0] * 9], 290)
    with pytest.raises(UsageError, match="another tokenizer"):
        find_contamination(items, [tmp_path], tokenizer=other)


def test_a_folder_without_a_training_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no training set"):
        find_contamination(["a"], [tmp_path])
