"""Tokenizers of GGUF files: the ids of llama.cpp, and of its golden files."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import LlamaCpp, write_sentencepiece_gguf
from peers import peer, smollm2

from groundup.base.errors import UserError
from groundup.base.gguf import read_gguf_header
from groundup.tokenizer import gguf
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids, turn_end
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.gguf import tokenizer_config, tokenizer_of_gguf
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special_names import special_names
from groundup.tokenizer.template import Message

PIECES = [
    *(" ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028"),
    *("1", "23", "2024", "٣", "½", "Ⅳ", "a", "The", "the", "'s", "'S", "'ll", "don't", "ſ"),
    *("é", "e\u0301", "naïve", "Straße", "日本語", "한국어", "العربية", "हिन्दी", "ไทย", "Việt"),
    *("😀", "👩\u200d👩\u200d👧", "🇩🇪", "!", "...", "---", "=", "[1,", "$^~|", "__", "<", ">"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<think>", "<|end|>", "<0x0A>"),
    *("\x00", "\x04", "\x1d", "\x7f", "\ufeff", "\ufffd", "\ue000", "\U00050000", "\U0010ffff"),
    *("hello", "world", "ing", "tion", "x", "ab", "aaaaaaa", "\N{LOWER ONE EIGHTH BLOCK}"),
]


def random_texts(n: int, seed: int = 0) -> Iterator[str]:
    draw = random.Random(seed)
    for _ in range(n):
        yield "".join(draw.choices(PIECES, k=draw.randrange(1, 12)))


def of_file(path: Path) -> Tokenizer:
    header = read_gguf_header(path)
    return tokenizer_of_gguf(header.metadata, path)


@pytest.fixture(scope="module")
def smollm() -> Tokenizer:
    return of_file(smollm2())


@pytest.fixture(scope="module")
def judge() -> LlamaCpp:
    return LlamaCpp(smollm2())


def check_equal(ours: Tokenizer, judge: LlamaCpp, n: int) -> None:
    for text in random_texts(n):
        assert ours.encode(text) == judge.tokenize(text), text
        assert ours.encode(text, "all") == judge.tokenize(text, special=True), text


def test_digits_and_spaces_of_smollm2_are_cut_as_llama_cpp_cuts_them(smollm: Tokenizer) -> None:
    assert smollm.encode("a  2") == [81, 256, 34]
    assert smollm.encode("2024") == [34, 32, 34, 36]
    assert smollm.encode("\n  1. foo") == [11181, 33, 30, 29856]
    assert smollm.encode("<|im_start|>user\nHi<|im_end|>\n", "all") == [1, 4093, 198, 26843, 2, 198]


@pytest.mark.parity
def test_random_texts_have_the_ids_of_llama_cpp(smollm: Tokenizer, judge: LlamaCpp) -> None:
    check_equal(smollm, judge, 500)


@pytest.mark.slow
@pytest.mark.parity
def test_ten_thousand_texts_have_the_ids_of_llama_cpp(smollm: Tokenizer, judge: LlamaCpp) -> None:
    check_equal(smollm, judge, 10_000)


@pytest.mark.parity
def test_other_libraries_read_the_saved_tokenizer_with_the_same_ids(
    smollm: Tokenizer, tmp_path: Path
) -> None:
    header = read_gguf_header(smollm2())
    smollm.save(tmp_path / "saved")
    about = tokenizer_config(header.metadata, header.path)
    (tmp_path / "saved" / "tokenizer_config.json").write_text(json.dumps(about))
    theirs = peer("transformers").AutoTokenizer.from_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.fingerprint == smollm.fingerprint
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)
    assert theirs.chat_template == header.metadata["tokenizer.chat_template"]
    for text in random_texts(100, seed=1):
        expected = smollm.encode(text, "all")
        assert theirs(text, add_special_tokens=False)["input_ids"] == expected
        assert again.encode(text, "all") == expected


@pytest.mark.parity
def test_the_chat_template_of_the_file_is_rendered_as_llama_cpp_renders_it(
    smollm: Tokenizer, judge: LlamaCpp
) -> None:
    about = tokenizer_config(read_gguf_header(smollm2()).metadata, smollm2())
    template = ChatTemplate(about["chat_template"], special_names(about))
    assert turn_end(smollm, template) == 2
    for texts in (("Hi", "Hello", " a\n"), ("日本語", "", "x"), ("a 'b' \\", "c", "d")):
        for roles in (["user"], ["system", "user"], ["user", "assistant", "user"]):
            messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
            text = template.render(messages, add_generation_prompt=True)
            assert text == judge.apply_template(messages)
            turns = [Message(**message) for message in messages]  # type: ignore[arg-type]
            ids, _ = render_ids(turns, smollm, template, add_generation_prompt=True)
            assert ids == judge.tokenize(text, special=True)


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_the_golden_texts_of_llama_cpp(name: str, shared_data: Path) -> None:
    path = shared_data / "ggml-vocab" / f"ggml-vocab-{name}.gguf"
    texts = path.with_name(f"{path.name}.inp").read_text(encoding="utf-8")
    ids = path.with_name(f"{path.name}.out").read_text(encoding="utf-8").split("\n")
    tokenizer = of_file(path)
    cases = texts.split("\n__ggml_vocab_test__\n")
    assert len(cases) == len(ids) == 47
    for text, expected in zip(cases, ids, strict=True):
        assert tokenizer.encode(text) == [int(each) for each in expected.split()], text


@pytest.mark.parity
@pytest.mark.parametrize("keys", [{}, {"add_space_prefix": False, "add_bos_token": False}])
def test_sentencepiece_has_the_ids_of_llama_cpp(
    keys: dict[str, bool], fixtures: Path, tmp_path: Path
) -> None:
    text = (fixtures / "the-ferry.txt").read_text(encoding="utf-8")
    path = tmp_path / "small.gguf"
    write_sentencepiece_gguf(path, text, **keys)
    judge, ours = LlamaCpp(path), of_file(path)
    assert isinstance(ours, ImportedTokenizer)
    assert ours.begin_ids == ([] if keys else [1])
    cases = [*random_texts(300), text[:2000]]
    for text in cases:
        assert ours.encode(text) == judge.tokenize(text), text
        assert ours.encode(text, "all") == judge.tokenize(text, special=True), text
        assert ours.begin_ids + ours.encode(text) == judge.tokenize(text, begin=True)
        if "<think>" not in text:  # a space is added after it, too
            begin = " " if ours.begin_ids else ""
            plain = text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
            assert ours.decode(ours.encode(text)) == begin + plain


def small_metadata(**changes: Any) -> dict[str, Any]:
    """The keys of a byte-level vocabulary of 259 tokens."""
    tokens = [*byte_spelling(), "ab", "<|end|>", "<think>"]
    types = np.array([1] * 257 + [3, 4], dtype=np.int32)
    keys = {
        "model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": types, "merges": ["a b"],
        "eos_token_id": 257,
    }  # fmt: skip
    keys |= changes
    return {f"tokenizer.ggml.{name}": each for name, each in keys.items() if each is not None}


def test_types_of_tokens() -> None:
    tokenizer = tokenizer_of_gguf(small_metadata(), Path("a.gguf"))
    assert tokenizer.special_tokens == {"<|end|>": 257}
    assert tokenizer.encode("<think>ab<|end|>")[:2] == [258, 256]
    assert 257 not in tokenizer.encode("<think>ab<|end|>")
    assert tokenizer.encode("ab<|end|>", "all") == [256, 257]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "bert"}, "model is 'bert'. gpt2 and llama"),
    ({"model": None}, "model is None"),
    ({"pre": "unheard-of"}, "pre is 'unheard-of'. gpt-2, "),
    ({"tokens": None}, "tokens is missing"),
    ({"tokens": [1, 2]}, "tokens is no list of texts"),
    ({"tokens": ["a"] * 259}, "'a' twice"),
    ({"tokens": ["a", "b"], "token_type": None, "eos_token_id": None}, "text would vanish|library"),
    ({"token_type": np.ones(3, np.int32)}, "token_type does not have one type"),
    ({"merges": ["ab"]}, r"merges\[0\] is 'ab'"),
    ({"merges": ["a b", "a b c"]}, r"merges\[1\] is 'a b c'"),
    ({"merges": ["a c"]}, "Merge 0 makes b'ac'|library refuses"),
    ({"add_bos_token": 3, "bos_token_id": 257}, "add_bos_token is 3"),
    ({"add_bos_token": True, "bos_token_id": 10**6}, "bos_token_id is 1000000"),
    ({"model": "llama"}, "scores does not have one score"),
    ({"model": "llama", "scores": np.zeros(259, np.float32)}, "no token for 256 of the 256 bytes"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_is_not_known_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.gguf: .*({message})"):
        tokenizer_of_gguf(small_metadata(**changes), Path("a.gguf"))


def test_scores_that_are_equal_leave_the_order_of_merges_open(tmp_path: Path) -> None:
    tokens = ["<unk>", *(f"<0x{i:02X}>" for i in range(256)), "a", "b", "ab", "ba"]
    metadata = small_metadata(
        model="llama", tokens=tokens, token_type=None, scores=np.zeros(261, np.float32)
    )
    with pytest.raises(UserError, match="'ab' and 'ba' have the same score"):
        tokenizer_of_gguf(metadata, tmp_path)


CUTS = {
    "gpt-2": ["Ab", "'", "S", " 1234", "  ", " x", "!", "\n"],
    "smollm": ["Ab", "'", "S", " ", "1", "2", "3", "4", "  ", " x", "!", "\n"],
    "qwen2": ["Ab", "'S", " ", "1", "2", "3", "4", "  ", " x", "!\n"],
    "llama-bpe": ["Ab", "'S", " ", "123", "4", "  ", " x", "!\n"],
    "default": ["Ab", "'", "S", " ", "123", "4", "  ", " x", "!", "\n"],
}


@pytest.mark.parametrize("name", CUTS)
def test_every_name_of_pre_cuts(name: str) -> None:
    tokenizers = peer("tokenizers")
    steps = {"type": "Sequence", "pretokenizers": gguf.PRE[name]}
    model = {"type": "BPE", "vocab": {}, "merges": []}
    engine = tokenizers.Tokenizer.from_str(json.dumps({"pre_tokenizer": steps, "model": model}))
    text = "Ab'S 1234   x!\n"
    found = engine.pre_tokenizer.pre_tokenize_str(text)
    assert [piece for piece, _ in found] == CUTS[name]
