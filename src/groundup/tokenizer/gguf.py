"""Tokenizers of GGUF files: the ids of llama.cpp, as a tokenizer.json that other libraries read.

A GGUF file states how its text is cut by a name only, `tokenizer.ggml.pre`. The patterns of the
names are those of llama.cpp, which is the reference for these files.

Source: https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from groundup.base.errors import UserError
from groundup.tokenizer.huggingface import from_description
from groundup.tokenizer.known_cuts import GPT2, LATER, PUNCTUATION
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.save import byte_level_model, byte_spelling

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens in tokenizer.ggml.token_type."""
_CONTROL_NAMES = frozenset(
    (
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"),
        *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>"),
        *("<|file_sep|>", "<|fim_repo|>", "<|fim_sep|>"),
    )
)
"""Tokens that llama.cpp takes for control tokens, whatever type the file states."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_DIGITS = {"type": "Digits", "individual_digits": True}


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def _bytes(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


PRE: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_split(GPT2)],
    **{name: [_DIGITS, _split(GPT2)] for name in ("smollm", "refact", "starcoder")},
    "qwen2": [_split(LATER % r"\p{N}")],
    **{name: [_split(LATER % r"\p{N}{1,3}")] for name in ("llama-bpe", "dbrx")},
    "default": [
        _split(PUNCTUATION),
        _split(GPT2),
        _split(r"\p{N}+"),
        _split("[0-9][0-9][0-9]"),
    ],
}
"""The steps that cut a text, by tokenizer.ggml.pre."""
_WHOLE_WORDS_FIRST = ("llama-bpe",)
"""Names for which a token of the vocabulary is taken before any merge (`ignore_merges`)."""
_BEGIN_WITH_BOS = ("llama-bpe",)


def tokenizer_of_gguf(metadata: Mapping[str, Any], where: Path) -> Tokenizer:
    """Build the tokenizer from the metadata of a GGUF file.

    Args:
        metadata: Values by key, as `groundup.base.gguf.read_gguf_header` reads them.
        where: The file, for messages.

    Raises:
        UserError: A key is missing or contradicts another, or the tokenizer is of a kind that is
            not known.
    """
    file = _Metadata(metadata, where)
    kind = file.text("model")
    if kind == "gpt2":
        description = _describe_byte_level(file)
    elif kind == "llama":
        description = _describe_sentencepiece(file)
    else:
        file.refuse(f"tokenizer.ggml.model is {kind!r}. gpt2 and llama are supported.")
    return from_description(description, where)


def tokenizer_config(metadata: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Build a tokenizer_config.json: the special tokens, and the chat template if there is one.

    Raises:
        UserError: An id is not that of a token, or the template is no text.
    """
    file = _Metadata(metadata, where)
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": file.flag("add_bos_token", default=False),
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = file.index(f"{key}_token_id")
        if index is not None:
            about[f"{name}_token"] = file.tokens[index]
    if (template := metadata.get("tokenizer.chat_template")) is not None:
        if not isinstance(template, str):
            file.refuse(f"tokenizer.chat_template is {template!r}. A text is expected.")
        about["chat_template"] = template
    return about


class _Metadata:
    """The keys of tokenizer.ggml, with their types checked."""

    def __init__(self, metadata: Mapping[str, Any], where: Path) -> None:
        self.metadata, self.where = metadata, where
        self.tokens: list[str] = self.texts("tokens")
        types = self.metadata.get("tokenizer.ggml.token_type")
        if types is not None and not (
            isinstance(types, np.ndarray)
            and types.dtype.kind in "iu"
            and len(types) == len(self.tokens)
        ):
            self.refuse("tokenizer.ggml.token_type does not have one type for each token.")
        self.types: list[int] = [_NORMAL] * len(self.tokens) if types is None else types.tolist()
        if len(set(self.tokens)) < len(self.tokens):
            seen: set[str] = set()
            twice = next(t for t in self.tokens if t in seen or seen.add(t))  # type: ignore[func-returns-value]
            self.refuse(f"tokenizer.ggml.tokens has {twice[:40]!r} twice. One id is expected.")

    @property
    def n_used(self) -> int:
        """Number of tokens before the last ones that only pad the vocabulary."""
        used = [index for index, kind in enumerate(self.types) if kind != _UNUSED]
        return max(used, default=-1) + 1

    def text(self, name: str, default: str | None = None) -> str:
        value = self.metadata.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(value, str):
            self.refuse(f"tokenizer.ggml.{name} is {value!r}. A text is expected.")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.metadata.get(f"tokenizer.ggml.{name}")
        if not isinstance(value, list) or not set(map(type, value)) <= {str}:
            found = "missing" if value is None else "no list of texts"
            self.refuse(f"tokenizer.ggml.{name} is {found}. A list of texts is expected.")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.metadata.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(value, bool):
            self.refuse(f"tokenizer.ggml.{name} is {value!r}. true or false is expected.")
        return value

    def index(self, name: str) -> int | None:
        value = self.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < len(self.tokens):
            self.refuse(
                f"tokenizer.ggml.{name} is {value!r}. An id below {len(self.tokens)} is expected."
            )
        return value

    def refuse(self, message: str) -> NoReturn:
        raise UserError(message, where=self.where)

    def added_tokens(self) -> list[dict[str, Any]]:
        """Describe the tokens that are found before a text is cut."""
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = []
        for index, (name, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            if kind in (_CONTROL, _UNKNOWN, _USER_DEFINED) or name in _CONTROL_NAMES:
                is_special = kind != _USER_DEFINED or name in _CONTROL_NAMES
                added.append({"id": index, "content": name, **flags, "special": is_special})
        return [token for token in added if token["content"]]


def _describe_byte_level(file: _Metadata) -> dict[str, Any]:
    pre = file.text("pre", "default")
    if pre not in PRE:
        file.refuse(f"tokenizer.ggml.pre is {pre!r}. {', '.join(PRE)} are supported.")
    merges = file.texts("merges")
    for rank, merge in enumerate(merges):
        if merge.count(" ") != 1 or merge[0] == " " or merge[-1] == " ":
            file.refuse(
                f"tokenizer.ggml.merges[{rank}] is {merge[:80]!r}. Two tokens with a space between "
                "them are expected."
            )
    missing = _before_missing(file.tokens)
    steps = [*PRE[pre], *missing, _bytes(use_regex=False)]
    if pre == "gpt-2" and not missing:
        steps = [_bytes(use_regex=True)]  # the same, and our BPE knows it by its name
    decoder = {**_bytes(use_regex=True), "add_prefix_space": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": file.added_tokens(),
        "normalizer": None,
        "pre_tokenizer": steps[0]
        if len(steps) == 1
        else {"type": "Sequence", "pretokenizers": steps},
        "post_processor": _bos_template(file, default=pre in _BEGIN_WITH_BOS),
        "decoder": decoder,
        "model": byte_level_model(
            {token: index for index, token in enumerate(file.tokens[: file.n_used])},
            merges,
            ignore_merges=pre in _WHOLE_WORDS_FIRST,
        ),
    }


def _before_missing(tokens: list[str]) -> list[dict[str, Any]]:
    """Cut before characters whose first byte has no token.

    llama.cpp leaves such a byte out after merging, the tokenizers library before it: there, what is
    on both sides of it would be merged.
    """
    held = set(tokens)
    ranges = []
    for byte, spelled in enumerate(byte_spelling()):
        if spelled in held:
            continue
        if byte < 0x80:
            ranges.append(f"\\x{{{byte:04x}}}")
        elif 0xC2 <= byte <= 0xF4:
            n_more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
            first = max((byte & (0x3F >> n_more)) << 6 * n_more, (0, 0x80, 0x800, 0x10000)[n_more])
            last = ((byte & (0x3F >> n_more)) + 1 << 6 * n_more) - 1
            ranges.append(f"\\x{{{first:x}}}-\\x{{{min(last, 0x10FFFF):x}}}")
    if not ranges:
        return []
    return [{**_split(f"[{''.join(ranges)}]"), "behavior": "MergedWithNext"}]


def _describe_sentencepiece(file: _Metadata) -> dict[str, Any]:
    adds_space = file.flag("add_space_prefix", default=True)
    if file.flag("remove_extra_whitespaces", default=False):
        file.refuse("tokenizer.ggml.remove_extra_whitespaces is true, which is not supported.")
    unknown = file.index("unknown_token_id")
    normalizers: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    ]
    if adds_space:
        normalizers.insert(0, {"type": "Prepend", "prepend": _SPACE})
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if adds_space:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": file.added_tokens(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": _bos_template(file, default=True),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if unknown is None else file.tokens[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(file.tokens[: file.n_used])},
            "merges": _merges_by_score(file),
        },
    }


def _merges_by_score(file: _Metadata) -> list[str]:
    """Write SentencePiece's scores as merges: the pair whose token has the best score comes first.

    Of pairs that make the same token, the one with the longer left part comes first.
    """
    scores = file.metadata.get("tokenizer.ggml.scores")
    if (
        not isinstance(scores, np.ndarray)
        or scores.dtype.kind != "f"
        or len(scores) != len(file.tokens)
    ):
        file.refuse("tokenizer.ggml.scores does not have one score for each token.")
    missing = [value for value in range(256) if f"<0x{value:02X}>" not in file.tokens]
    if missing:
        file.refuse(
            f"tokenizer.ggml.tokens has no token for {len(missing)} of the 256 bytes, first for "
            f"{missing[0]}. A vocabulary that can represent every text is expected."
        )
    ordinary = {
        token: float(score)
        for token, score, kind in zip(file.tokens, scores, file.types, strict=True)
        if kind not in (_CONTROL, _UNKNOWN, _USER_DEFINED, _BYTE)
    }
    found: list[tuple[float, int, str, str]] = []
    made: dict[float, str] = {}
    for token, score in ordinary.items():
        pairs = [
            (token[:at], token[at:])
            for at in range(1, len(token))
            if token[:at] in ordinary and token[at:] in ordinary
        ]
        if not pairs:
            continue
        if made.setdefault(score, token) != token:
            file.refuse(
                f"The tokens {made[score][:40]!r} and {token[:40]!r} have the same score {score}. "
                "Different scores are expected, because they order the merges."
            )
        found += [(-score, -len(left), left, right) for left, right in pairs]
    return [f"{left} {right}" for _, _, left, right in sorted(found)]


def _bos_template(file: _Metadata, *, default: bool) -> dict[str, Any] | None:
    """Describe that texts begin with BOS, where llama.cpp begins them so."""
    bos = file.index("bos_token_id")
    if bos is None or not file.flag("add_bos_token", default=default):
        return None
    name = file.tokens[bos]
    begin: Sequence[dict[str, Any]] = [{"SpecialToken": {"id": name, "type_id": 0}}]
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [*begin, text],
        "pair": [*begin, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [bos], "tokens": [name]}},
    }
