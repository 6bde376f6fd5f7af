"""Small tokenizers with the parts that real ones have, as content of a tokenizer.json."""

import json
from typing import Any

import tokenizers
from chat_templates import NOT_SPECIAL, SPECIAL

TEXT = (
    "Hello, the cat sat on the mat in 2024. Café Việt naïve 日本語 <|im_start|>user assistant\n"
    "system im_end begin end of turn [INST] [/INST] <<SYS>> You are helpful. user Hi there! "
) * 4
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def _with_tokens(model: Any) -> dict[str, Any]:
    model.add_special_tokens(SPECIAL)
    model.add_tokens(NOT_SPECIAL)
    return json.loads(model.to_str())


def byte_level(*, normalizer: Any = None, steps: Any = ()) -> dict[str, Any]:
    """As of GPT-2, Llama 3, Qwen and SmolLM2."""
    pre = tokenizers.pre_tokenizers
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    if normalizer is not None:
        model.normalizer = normalizer
    model.pre_tokenizer = pre.Sequence([*steps, pre.ByteLevel(add_prefix_space=False)])
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator([TEXT], trainer)
    return _with_tokens(model)


def sentencepiece(*, first: bool = False) -> dict[str, Any]:
    """As of Llama 2: spaces as blocks, bytes as tokens, BOS before every text."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=120, show_progress=False)
    model.train_from_iterator([TEXT], trainer)
    content = json.loads(model.to_str())
    trained = content["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    tokens += [token for token in trained["vocab"] if token not in tokens]
    trained |= {"vocab": {token: index for index, token in enumerate(tokens)}}
    trained |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    if first:
        step = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first"}
        content["pre_tokenizer"] = {**step, "split": False}
    else:
        replaced = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        steps = [{"type": "Prepend", "prepend": SPACE}, replaced]
        content |= {"normalizer": {"type": "Sequence", "normalizers": steps}}
        content["pre_tokenizer"] = None
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    begin = [{"SpecialToken": {"id": "<s>", "type_id": 0}}]
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": begin + text,
        "pair": begin + text + [{"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return _with_tokens(tokenizers.Tokenizer.from_str(json.dumps(content)))


def unigram() -> dict[str, Any]:
    """A SentencePiece model that chooses the likeliest pieces; its list has control tokens."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{value:02X}>", -9.0) for value in range(256)]
    words = {f"{SPACE}{word}" for word in TEXT.split()} | set(TEXT.replace(" ", SPACE)) | {SPACE}
    pieces += [(word, -1.0 - 0.1 * len(word)) for word in sorted(words)]
    model = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, 0, byte_fallback=True))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    model.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.ByteFallback(), tokenizers.decoders.Metaspace()]
    )
    return _with_tokens(model)


def word_level() -> dict[str, Any]:
    """Whole words; the vocabulary has the names of the special tokens."""
    words = ["<unk>", *SPECIAL, *sorted(set(TEXT.split()))]
    vocabulary = {word: index for index, word in enumerate(words)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return _with_tokens(model)


def whole_words_first() -> dict[str, Any]:
    """As of Llama 3, with the names of special tokens in the vocabulary (`ignore_merges`)."""
    content = byte_level()
    vocabulary = content["model"]["vocab"]
    for token in content["added_tokens"]:
        vocabulary[token["content"]] = token["id"]
    content["model"]["ignore_merges"] = True
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\s+|\S+"}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False},
        ],
    }  # fmt: skip
    return content


def stripping() -> dict[str, Any]:
    """As of Phi 3: special tokens take the white space beside them."""
    content = byte_level()
    for token in content["added_tokens"]:
        token["rstrip"] = token["content"] in ("<|end_header_id|>", "<|user|>")
        token["lstrip"] = token["content"] in ("</s>", "<|im_end|>")
    return content


def only_special() -> dict[str, Any]:
    """What our own BPE computes."""
    content = byte_level()
    content["added_tokens"] = [token for token in content["added_tokens"] if token["special"]]
    return content


KINDS = {
    "ours": only_special(),
    "bytes": byte_level(),
    "digits": byte_level(steps=[tokenizers.pre_tokenizers.Digits(individual_digits=True)]),
    "nfc": byte_level(normalizer=tokenizers.normalizers.NFC()),
    "sentencepiece": sentencepiece(),
    "sentencepiece first": sentencepiece(first=True),
    "unigram": unigram(),
    "words": word_level(),
    "whole words first": whole_words_first(),
    "stripping": stripping(),
}
