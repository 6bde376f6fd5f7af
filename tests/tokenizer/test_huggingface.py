"""Foreign tokenizer.json files: the ids of tokenizers, or a refusal that names the field."""

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.fields import Fields
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.huggingface import _read_added_tokens
from groundup.tokenizer.imported import ImportedTokenizer

tokenizers = pytest.importorskip("tokenizers")

LINES = ["The cat sat in 2024.", "Café Việt  a\n\nthe cats' 1234567 mats don't", "das Haus, naïve"]
TEXT = st.lists(
    st.sampled_from(["the", " cat", "Café", "e\u0301", "  ", "\n", "'s", "123", "<|a|>", "<|ab|>"])
    | st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=4),
    max_size=10,
).map("".join)


def trained(*, split: Any = None, **byte_level: Any) -> dict[str, Any]:
    """A tokenizer.json as tokenizers writes it."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    steps = [tokenizers.pre_tokenizers.ByteLevel(**{"add_prefix_space": False} | byte_level)]
    if split is not None:
        steps = [*split, *steps]
    pre = tokenizers.pre_tokenizers
    model.pre_tokenizer = steps[0] if len(steps) == 1 else pre.Sequence(steps)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    model.train_from_iterator(LINES * 3, trainer)
    model.add_special_tokens(["<|a|>", "<|ab|>"])
    return json.loads(model.to_str())


PLAIN = trained()


def write(folder: Path, content: Any) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def check_equal(folder: Path, content: Any) -> BPETokenizer:
    """Compare ids on random texts; special tokens are always special for tokenizers."""
    ours = load_tokenizer(write(folder, content))
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert isinstance(ours, BPETokenizer)

    @given(TEXT)
    @settings(max_examples=60, deadline=None)
    def on_any_text(text: str) -> None:
        ids = theirs.encode(text).ids
        assert ours.encode(text, "all") == ids
        assert ours.decode(ids) == text

    on_any_text()
    ours.save(folder / "again")
    again = load_tokenizer(folder / "again")
    assert again.fingerprint == ours.fingerprint
    their_again = tokenizers.Tokenizer.from_file(str(folder / "again" / "tokenizer.json"))
    text = " ".join(LINES) + "<|a|><|ab|><|endoftext|> Zażółć \r\n 1234"
    assert their_again.encode(text).ids == ours.encode(text, "all") == theirs.encode(text).ids
    return ours


def check_imported(folder: Path, content: Any) -> ImportedTokenizer:
    """Compare ids with special tokens, and check that without them text makes none of their ids."""
    ours = load_tokenizer(write(folder, content))
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert isinstance(ours, ImportedTokenizer)
    special = set(ours.special_tokens.values())
    unknown = content["model"].get("unk_token")
    special.discard(ours.special_tokens.get(unknown, -1))

    @given(TEXT)
    @settings(max_examples=60, deadline=None)
    def on_any_text(text: str) -> None:
        ids = ours.encode(text, "all")
        assert ids == theirs.encode(text, add_special_tokens=False).ids
        assert special.isdisjoint(ours.encode(text))
        assert b"".join(map(ours.token_bytes, ids)).decode(errors="replace") == ours.decode(ids)
        for name in ours.special_tokens:
            text = text.replace(name, "")
        if not any(name in text for name in ours.special_tokens):
            assert ours.encode(text) == ours.encode(text, "all")

    on_any_text()
    assert ours.vocab_size == max(theirs.get_vocab().values()) + 1
    ours.save(folder / "again")
    again = load_tokenizer(folder / "again")
    assert again.fingerprint == ours.fingerprint
    assert pickle.loads(pickle.dumps(ours)).encode(LINES[1]) == ours.encode(LINES[1])
    return ours


def split(pattern: str, behavior: str = "isolated", *, regex: bool = True, **more: Any) -> Any:
    made = tokenizers.Regex(pattern) if regex else pattern
    return tokenizers.pre_tokenizers.Split(made, behavior, **more)


ACCEPTED: dict[str, Any] = {
    "gpt2": PLAIN,
    "split": trained(split=[split(r"\p{N}{1,3}|\p{L}+|\s+")], use_regex=False),
    "split that does not cover": trained(split=[split(r"\p{N}{1,3}")], use_regex=False),
    "split by words": trained(split=[split(r"\w+")], use_regex=False),
    "split into repetitions": trained(split=[split(r"\p{N}{1,3}+")], use_regex=False),
    "split inverted": trained(split=[split(r"\d+", invert=True)], use_regex=False),
    "split by a string": trained(split=[split("a.", regex=False)], use_regex=False),
    "split by a line feed": trained(split=[split(" \n", regex=False)], use_regex=False),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_ids_are_those_of_tokenizers(name: str, tmp_path: Path) -> None:
    check_equal(tmp_path, ACCEPTED[name])


def edited(edit: Callable[[dict[str, Any]], Any], content: Any = PLAIN) -> dict[str, Any]:
    copy = json.loads(json.dumps(content))
    edit(copy)
    return copy


def legacy(file: dict[str, Any]) -> None:
    """As openai-community/gpt2 has it: no type, merges as strings, empty prefixes."""
    file["model"].pop("type")
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    file["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}


@pytest.mark.parametrize(
    "edit",
    [
        legacy,
        lambda file: file["model"]["merges"].insert(3, file["model"]["merges"][0]),
        lambda file: file["model"].update(unk_token="<|endoftext|>", fuse_unk=True, dropout=0.0),
        lambda file: file["model"].update(byte_fallback=True, ignore_merges=True),
        lambda file: file.update(post_processor={"type": "ByteLevel", "trim_offsets": False,
                                                 "add_prefix_space": True, "use_regex": True}),
        lambda file: file.update(normalizer={"type": "Sequence", "normalizers": []}),
        lambda file: [token.update(normalized=True) for token in file["added_tokens"]],
        lambda file: [file.pop(key) for key in ("version", "normalizer", "decoder", "padding")],
        lambda file: file["pre_tokenizer"].pop("use_regex"),
    ],
)  # fmt: skip
def test_what_changes_no_id_is_accepted(edit: Callable[[Any], Any], tmp_path: Path) -> None:
    check_equal(tmp_path, edited(edit))


def test_missing_added_tokens_are_none(tmp_path: Path) -> None:
    ours = check_equal(tmp_path, edited(lambda file: file.pop("added_tokens")))
    assert ours.special_tokens == {}


def set_step(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda file: file.update({name: value})


def set_model(**fields: Any) -> Callable[[Any], Any]:
    return lambda file: file["model"].update(fields)


def set_added(**fields: Any) -> Callable[[Any], Any]:
    return lambda file: file["added_tokens"][-1].update(fields)


def set_vocab(token: str, index: Any) -> Callable[[Any], Any]:
    def edit(file: Any) -> None:
        file["model"]["vocab"].update({token: index})
        file["added_tokens"] = []

    return edit


TEMPLATE: dict[str, Any] = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<|a|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|a|>": {"id": "<|a|>", "ids": [300], "tokens": ["<|a|>"]}},
}
DIGITS = {"type": "Digits", "individual_digits": True}


def with_steps(*steps: Any) -> Callable[[Any], Any]:
    return lambda file: file.update(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, file["pre_tokenizer"]]}
    )


def none_is_merged(file: Any) -> None:
    """Llama 3 takes a token of the vocabulary where it is a whole pretoken."""
    file["model"].update(ignore_merges=True, merges=[])


RUN_BY_THE_LIBRARY: dict[str, dict[str, Any]] = {
    "NFC": edited(set_step("normalizer", {"type": "NFC"})),
    "NFC in a sequence": edited(
        set_step("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}]})
    ),
    "lower case": edited(set_step("normalizer", {"type": "Lowercase"})),
    "prepend": edited(set_step("normalizer", {"type": "Prepend", "prepend": "_"})),
    "a space before": edited(lambda file: file["pre_tokenizer"].update(add_prefix_space=True)),
    "no cuts": edited(lambda file: file["pre_tokenizer"].update(use_regex=False)),
    "digits": edited(with_steps(DIGITS)),
    "template": edited(set_step("post_processor", TEMPLATE)),
    "template in a sequence": edited(
        set_step("post_processor", {"type": "Sequence", "processors": [TEMPLATE]})
    ),
    "suffix": edited(set_model(end_of_word_suffix="</w>", unk_token="<|endoftext|>")),
    "not special": edited(set_added(special=False)),
    "lstrip": edited(set_added(lstrip=True)),
    "rstrip": edited(set_added(rstrip=True)),
    "single word": edited(set_added(single_word=True)),
    "partly normalized": edited(set_added(normalized=True)),
    "ignore_merges": edited(none_is_merged),
    "two splits": trained(split=[split(r"\p{N}"), split(r"\p{L}+")], use_regex=False),
    "merged with next": trained(
        split=[split(" ", "merged_with_next", regex=False)], use_regex=False
    ),
    "anchor": trained(split=[split("^a")], use_regex=False),
    "word boundary": trained(split=[split(r"\bcat")], use_regex=False),
    "class in a class": trained(split=[split("[a[b]]")], use_regex=False),
}


@pytest.mark.parametrize("name", RUN_BY_THE_LIBRARY)
def test_what_our_bpe_does_not_compute_is_run_by_the_library(name: str, tmp_path: Path) -> None:
    check_imported(tmp_path, RUN_BY_THE_LIBRARY[name])


def add_a_token_whose_id_is_taken(file: Any) -> None:
    """The vocabulary has a hole, so that the library counts an id that a token has."""
    vocabulary, added = file["model"]["vocab"], file["added_tokens"]
    vocabulary["xq"] = len(vocabulary) + 1
    file["added_tokens"] = [added[-1] | {"content": "<|new|>", "id": len(vocabulary)}]


REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda file: file["pre_tokenizer"].update(new=1), r"pre_tokenizer\.new is not supported"),
    (with_steps({"type": "Digits", "new": 1}), r"pre_tokenizer.*new is not supported"),
    (set_step("pre_tokenizer", {"type": "New"}), r"pre_tokenizer\.type is .New"),
    (set_step("normalizer", {"type": "NFC", "new": 1}), r"normalizer\.new is not supported"),
    (set_step("normalizer", {"type": "New"}), r"normalizer\.type is .New"),
    (set_step("post_processor", {"type": "New"}), r"post_processor\.type is .New"),
    *(
        (
            set_step("post_processor", TEMPLATE | {"single": single}),
            r"post_processor\.single is .*the text \(Sequence A\) once",
        )
        for single in ([], TEMPLATE["single"][:1], TEMPLATE["single"] * 2, TEMPLATE["pair"], [1])
    ),
    (set_step("decoder", {"type": "CTC"}), r"decoder\.type is .CTC"),
    (
        set_step("decoder", {"type": "Sequence", "decoders": [{"type": "Fuse", "new": 1}]}),
        r"decoder.*new is not supported",
    ),
    (set_step("pre_tokenizer", None), "some text would vanish"),
    (set_step("pre_tokenizer", {"type": "Whitespace"}), "some text would vanish"),
    (set_step("truncation", {"max_length": 3}), "truncation is .*leaves out ids"),
    (set_step("padding", {"strategy": "BatchLongest"}), "padding is .*adds ids"),
    (set_step("new_field", 1), "new_field is not supported"),
    (set_step("version", "2.0"), "version is"),
    (set_model(type="New"), r"model\.type is .New"),
    (set_model(type="Unigram"), r"model\.vocab is"),
    (set_model(dropout=0.1), r"model\.dropout is 0\.1"),
    (set_model(continuing_subword_prefix="##"), "tokenizers library refuses"),
    (set_model(new_field=1), r"model\.new_field is not supported"),
    (set_model(merges=[["x", "y", "z"]]), r"model\.merges\[0\] is"),
    (set_model(merges=["xy"]), r"model\.merges\[0\] is"),
    (set_model(merges=[["x", "nope"]]), "'nope' is not an ordinary token"),
    (set_model(merges=[["x", "q"]]), "Merge 0 makes b'xq'"),
    (
        lambda file: file.update(model={"vocab": {"a": 0}, "merges": []}, added_tokens=[]),
        r"no token for 255 of the 256 bytes",
    ),
    (set_vocab("x", "1"), r"model\.vocab\['x'\] is \"1\""),
    (set_vocab("x", True), r"model\.vocab\['x'\] is true"),
    (set_vocab("x", 1.5), r"model\.vocab\['x'\] is 1\.5"),
    (set_vocab("xq", 10**12), "ids from 0 to 1000000000000"),
    (set_vocab("xq", -1), "ids from -1"),
    (set_vocab("xq", 5), "have the same id 5"),
    (set_vocab("日本", 999), "'日本' .* is not byte-level"),
    (set_added(id=7), r"added_tokens\[2\]\.id is 7\. The id \d+ is expected"),
    (set_added(id=10**12), r"added_tokens\[2\]\.id is 1000000000000"),
    (add_a_token_whose_id_is_taken, r"added_tokens\[0\]\.id is \d+\. 'xq' has this id"),
    (set_added(content=""), r"added_tokens\[2\]\.content is"),
    (set_added(content="<|a|>"), r"added_tokens\[2\]\.content is"),
    (lambda file: file.pop("model"), "model"),
    (lambda file: file["model"].pop("vocab"), r"model\.vocab is missing"),
    (lambda file: file["added_tokens"][0].pop("id"), r"added_tokens\[0\]\.id is missing"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_changes_ids_is_refused_by_name(
    edit: Callable[[Any], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"tokenizer\.json: .*{message}"):
        load_tokenizer(write(tmp_path, edited(edit)))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"3", b'{"model": 3}', b'{"a": 1, "a": 2}', b"\xff\xfe{}", b"[" * 10**5,
     b'{"a": ' * 10**4, b'{"a": ' + b"9" * 5000 + b"}", b'{"version": NaN}', b'{"\\ud800": 1}'],
)  # fmt: skip
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "ladder.json"])
def test_what_is_no_tokenizer_is_one_sentence(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        load_tokenizer(tmp_path)


def test_the_time_to_read_added_tokens_is_linear_in_their_number() -> None:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    vocabulary = {str(index): index for index in range(300)}

    def seconds(n_tokens: int) -> float:
        tokens = [{**flags, "content": f"<|{i}|>", "id": 300 + i} for i in range(n_tokens)]
        file = Fields({"added_tokens": tokens}, "", Path("tokenizer.json"))
        started_at = time.process_time()
        _read_added_tokens(file, vocabulary)
        return time.process_time() - started_at

    # 8 times as many: 8 times as long, and 53 times as long if every token looks at all others.
    ratios = (seconds(16_000) / seconds(2_000) for _ in range(5))
    assert min(ratios) < 24
