"""Tokenizers of other projects, run by Hugging Face's tokenizers library.

The names of special tokens are text unless they are allowed. The library would find them in any
text, and a vocabulary or merges may have them too, so `encode` runs on a copy of the description
from which the special tokens that are not allowed were removed.
"""

import json
import operator
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tokenizers

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, sha256_bytes, write_text
from groundup.base.surrogates import has_surrogates
from groundup.tokenizer.known_cuts import cuts_at_pieces
from groundup.tokenizer.special import allowed_names
from groundup.tokenizer.special_names import save_end_of_text
from groundup.tokenizer.token_text import check_no_text_vanishes, steps_of, token_speller

_EMPTY = {"type": "BPE", "vocab": {}, "merges": []}
_DECIDE_IDS = ("normalizer", "pre_tokenizer", "model", "added_tokens")


class ImportedTokenizer:
    """A tokenizer that the tokenizers library computes, described in the schema of its files.

    Args:
        description: The content of a tokenizer.json, which has been checked.
        where: The file, for messages.

    Raises:
        UserError: The library refuses the description, or some text would vanish.
    """

    def __init__(self, description: Mapping[str, Any], *, where: str | Path | None = None) -> None:
        self._description = dict(description)
        self._where = where
        self.added_tokens: list[dict[str, Any]] = list(description.get("added_tokens") or [])
        """Tokens that are found before a text is cut, special and not, with their flags."""
        self.special_tokens: dict[str, int] = {
            token["content"]: token["id"] for token in self.added_tokens if token["special"]
        }
        self.eos_token: str | None = None
        """The eos_token of the tokenizer_config.json beside the file. None: not known."""
        self._ids = _ids(description["model"])
        for token in self.added_tokens:
            self._ids.setdefault(token["content"], token["id"])
        self._size = max(self._ids.values(), default=-1) + 1
        self.cuts_at_pieces = cuts_at_pieces(description)
        """Whether the pieces of a text, encoded one by one, have the ids of the whole text."""
        self._depends_on_start = _has_first_scheme(description.get("pre_tokenizer"))
        self._engines: dict[tuple[frozenset[str], bool], tokenizers.Tokenizer] = {}
        # Neither decides ids, so that the engines do without them; the library checks their fields.
        _made({**description, "model": _EMPTY, "added_tokens": []}, where)
        check_no_text_vanishes(self._description, where)
        self._spell = token_speller(self._description, where)
        self.begin_ids: list[int] = _begin_ids(description.get("post_processor"), where)
        """The ids that the library puts before a text, such as BOS; `encode` does not."""
        self._plain = self._engine(frozenset(), is_continued=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the description; the engines are made again."""
        return _again, (self._description, self._where, self.eos_token)

    @property
    def vocab_size(self) -> int:
        """The largest id and one."""
        return self._size

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides the ids."""
        parts = {name: self._description.get(name) for name in _DECIDE_IDS}
        return sha256_bytes(json.dumps(parts, sort_keys=True).encode())

    def encode(
        self,
        text: str,
        allowed_special: AbstractSet[str] | Literal["all"] = frozenset(),
        *,
        is_continued: bool = False,
    ) -> list[int]:
        """Encode text as ids; the name of a special token is ordinary text unless it is allowed.

        No ids are added at the beginning or the end. An unknown token stands for text that the
        vocabulary cannot represent, where there is one.

        Args:
            text: The text.
            allowed_special: Names of special tokens that are special in this text.
            is_continued: Whether other tokens come before it. Some tokenizers add a space to the
                beginning of a text only.

        Raises:
            UserError: A token is allowed that this tokenizer does not have, or the text contains
                half of a surrogate pair.
        """
        names = frozenset(allowed_names(self.special_tokens, allowed_special))
        ids: list[int] = self._encoded(text, names, is_continued=is_continued).ids
        return ids

    def encode_with_places(
        self, text: str, *, is_continued: bool = False
    ) -> list[tuple[int, int, int]]:
        """Encode text without special tokens as ids, each with the characters it stands for.

        Returns:
            (id, first character, the one after the last) of each token.

        Raises:
            UserError: As `encode`.
        """
        made = self._encoded(text, frozenset(), is_continued=is_continued)
        return [(index, *places) for index, places in zip(made.ids, made.offsets, strict=True)]

    def _encoded(self, text: str, names: frozenset[str], *, is_continued: bool) -> Any:
        engine = self._plain
        is_continued &= self._depends_on_start
        if names or is_continued:
            engine = self._engine(names, is_continued=is_continued)
        try:
            return engine.encode(text, add_special_tokens=False)
        except Exception as error:
            if isinstance(text, str) and has_surrogates(text):
                raise UserError(
                    "The text contains half of a surrogate pair, which is no character. Text that "
                    "can be written as UTF-8 is expected."
                ) from error
            if isinstance(error, TypeError):
                raise
            raise UserError(f"The text cannot be encoded: {error}.", where=self._where) from error

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text: the bytes of the tokens, joined; invalid UTF-8 becomes U+FFFD.

        Where the tokenizer puts a space before every text, it is there: the ids of a text that is
        continued are decoded alike.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        """Return the bytes of one id; none for an id without a token.

        Raises:
            UserError: There is no such id.
        """
        if not 0 <= operator.index(index) < self._size:
            raise UserError(
                f"There is no token with id {index}. An id from 0 to {self._size - 1} is expected."
            )
        return self._table.get(index, b"")

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json, as it was read, and the name of the token that ends a text."""
        with atomic_folder(Path(folder)) as temporary:
            text = json.dumps(self._description, ensure_ascii=False)
            write_text(temporary / "tokenizer.json", text + "\n")
            save_end_of_text(self, temporary)

    @cached_property
    def _table(self) -> dict[int, bytes]:
        added = {token["content"]: token["id"] for token in self.added_tokens}
        table = {index: self._spell(token) for token, index in self._ids.items()}
        # The text of an added token is not spelled: it is in the file as it is in a text.
        return table | {index: name.encode("utf-8") for name, index in added.items()}

    def _engine(self, allowed: frozenset[str], *, is_continued: bool) -> tokenizers.Tokenizer:
        key = (allowed, is_continued)
        if key not in self._engines:
            hidden = self.special_tokens.keys() - allowed
            description = _without(self._description, hidden)
            if is_continued:
                description["pre_tokenizer"] = _never_first(description["pre_tokenizer"])
            self._engines[key] = _made(description, self._where)
        return self._engines[key]


def _again(
    description: Mapping[str, Any], where: str | Path | None, eos_token: str | None
) -> ImportedTokenizer:
    made = ImportedTokenizer(description, where=where)
    made.eos_token = eos_token
    return made


def _made(description: Mapping[str, Any], where: str | Path | None) -> tokenizers.Tokenizer:
    try:
        if description["model"].get("type", "BPE") == "BPE" and description["model"]["vocab"]:
            return _made_of_bpe(description)
        return tokenizers.Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library may panic, which is no Exception
        raise UserError(f"The tokenizers library refuses this: {error}.", where=where) from error


def _made_of_bpe(description: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Build an engine without writing and reading the vocabulary as JSON, which takes longer."""
    settings = {name: value for name, value in description["model"].items() if value is not None}
    settings.pop("type", None)
    pairs = [m.split(" ") if isinstance(m, str) else m for m in settings.pop("merges")]
    merges = [tuple(pair) for pair in pairs if pair[0] != "#version:"]
    steps = tokenizers.Tokenizer.from_str(
        json.dumps({**description, "model": _EMPTY, "added_tokens": []})
    )
    engine = tokenizers.Tokenizer(tokenizers.models.BPE(merges=merges, **settings))
    if description.get("normalizer") is not None:
        engine.normalizer = steps.normalizer
    if description.get("pre_tokenizer") is not None:
        engine.pre_tokenizer = steps.pre_tokenizer
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    engine.add_tokens(
        [
            tokenizers.AddedToken(token["content"], **{flag: token[flag] for flag in flags})
            for token in description.get("added_tokens") or []
        ]
    )
    return engine


def _ids(model: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of the model's tokens."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        return dict(vocab)
    return {token: index for index, (token, _) in enumerate(vocab)}


def _unknown(model: Mapping[str, Any]) -> str | None:
    """Return the token of text that the vocabulary cannot represent."""
    if model.get("type") == "Unigram":
        at = model.get("unk_id")
        return model["vocab"][at][0] if type(at) is int and 0 <= at < len(model["vocab"]) else None
    return model.get("unk_token")


def _without(description: Mapping[str, Any], hidden: AbstractSet[str]) -> dict[str, Any]:
    """Return a description whose engine never gives the ids of these tokens."""
    changed = {**description, "post_processor": None, "decoder": None, "version": "1.0"}
    if not hidden:
        return changed
    kept = [each for each in description.get("added_tokens") or [] if each["content"] not in hidden]
    model = dict(description["model"])
    held = _ids(model)
    gone = {name for name in hidden if name in held and name != _unknown(model)}
    # The library counts the ids of tokens that the vocabulary lacks, and must not count here.
    missing = {each["content"]: each["id"] for each in kept if each["content"] not in held}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {n: i for n, i in model["vocab"].items() if n not in gone} | missing
    else:
        vocab = [["", score] if name in gone else [name, score] for name, score in model["vocab"]]
        for name, index in sorted(missing.items(), key=lambda item: item[1]):
            vocab += [["", 0.0]] * (index - len(vocab)) + [[name, 0.0]]
        model["vocab"] = vocab
    if "merges" in model and _may_be_merged(gone, held, model):
        prefix = len(model.get("continuing_subword_prefix") or "")
        pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
        model["merges"] = [
            pair
            for pair in pairs
            if len(pair) == 2 and gone.isdisjoint((*pair, pair[0] + pair[1][prefix:]))
        ]
    return {**changed, "model": model, "added_tokens": kept}


def _may_be_merged(
    names: AbstractSet[str], held: Mapping[str, int], model: Mapping[str, Any]
) -> bool:
    """Whether merges may make one of these tokens, or take one as a part."""
    if model.get("continuing_subword_prefix"):
        return bool(names)
    is_made = any(n[:at] in held and n[at:] in held for n in names for at in range(1, len(n)))
    # A token that is a part makes one that begins or ends with it.
    return is_made or any(
        token not in names and (token.startswith(ends) or token.endswith(ends))
        for ends in [tuple(names)]
        for token in held
        if ends
    )


def _has_first_scheme(pre_tokenizer: Any) -> bool:
    return any(step.get("prepend_scheme") == "first" for step in steps_of(pre_tokenizer))


def _never_first(pre_tokenizer: Any) -> dict[str, Any]:
    steps = [
        {**step, "prepend_scheme": "never"} if step.get("prepend_scheme") == "first" else step
        for step in steps_of(pre_tokenizer)
    ]
    return {"type": "Sequence", "pretokenizers": steps}


def _begin_ids(post_processor: Any, where: str | Path | None) -> list[int]:
    for step in steps_of(post_processor):
        if "cls" in step:
            return [step["cls"][1]]
        found: list[int] = []
        for part in step.get("single") or []:
            if "SpecialToken" not in part:
                break
            name = part["SpecialToken"].get("id")
            entry = (step.get("special_tokens") or {}).get(name)
            if not isinstance(entry, dict) or not isinstance(entry.get("ids"), list):
                raise UserError(
                    f"The post_processor adds {name!r}, and its special_tokens do not have it.",
                    where=where,
                )
            found += entry["ids"]
        if found:
            return found
    return []
