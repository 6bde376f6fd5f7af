"""The model that a server serves, and what all its routes need to know of it."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from groundup import __version__
from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import grammar_tokens, token_bytes
from groundup.generation.constraint import Constraint
from groundup.generation.grammar import GrammarTokens
from groundup.serve.worker import Worker
from groundup.tokenizer.conversation import puts_space_before
from groundup.tokenizer.words import WordTokenizer


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model with its worker."""

    name: str
    """The name by which clients ask for it."""
    model: LanguageModel
    worker: Worker
    form: str = "float32"
    """How weights are stored and multiplied."""
    max_prompt_tokens: int | None = None
    """Maximum length of a prompt. None: the context of the model."""
    max_new_tokens: int | None = None
    """Maximum length of an answer. None: what the context leaves."""
    created_s: int = field(default_factory=lambda: int(time.time()))
    open_answers: set[Callable[[], None]] = field(default_factory=set)
    """For each answer that is being generated, the function that ends it. They belong to the event
    loop of the server."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def end_answers(self) -> None:
        """End all answers that are being generated."""
        for end in list(self.open_answers):
            end()

    @property
    def context_length(self) -> int:
        """Context length of the model, in tokens."""
        return self.model.model.config.context_length

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model."""
        return self.model.tokenizer

    @cached_property
    def token_bytes(self) -> Callable[[int], bytes]:
        """The function from a token to its bytes."""
        return token_bytes(self.tokenizer)

    @cached_property
    def answers_begin_with_space(self) -> bool:
        """Whether the first token of an answer begins with a space that is no part of it."""
        if isinstance(self.tokenizer, WordTokenizer):
            return True
        return self.model.chat_template is not None and puts_space_before(self.tokenizer)

    @cached_property
    def longest_token_bytes(self) -> int:
        """Number of bytes of the longest token."""
        return max(len(self.token_bytes(i)) for i in range(self.tokenizer.vocab_size))

    @cached_property
    def weights_sha256(self) -> str:
        """The SHA-256 of the file of the weights, which was checked when it was opened."""
        about = read_json(self.model.path / "model.json")
        (checksum,) = about["weights"].values()
        return str(checksum)

    @cached_property
    def fingerprint(self) -> str:
        """A name of weights, code and settings. Answers can be traced to all three."""
        code = hashlib.sha256()
        package = Path(__file__).parents[1]
        for file in sorted(package.rglob("*.py")):
            code.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
        how = f"{torch.__version__} {self.form} {self.worker.engine.decoder.deterministic}"
        code.update(how.encode())
        return f"groundup-{__version__}-{self.weights_sha256[:12]}-{code.hexdigest()[:12]}"

    @cached_property
    def _grammar_tokens(self) -> GrammarTokens:
        return grammar_tokens(self.model)

    def json_constraint(self, schema: Mapping[str, Any]) -> Callable[[], Constraint]:
        """Make the constraint to JSON texts of a schema.

        Raises:
            UserError: llguidance is not installed, or does not support the schema.
        """
        with self._lock:  # the tokens are prepared once
            return self._grammar_tokens.json_schema(schema)

    def gone(self) -> str | None:
        """Say that the model on disk is no longer the one that is served. None: it is."""
        try:
            about = read_json(self.model.path / "model.json")
            is_same = list(about["weights"].values()) == [self.weights_sha256]
        except (UserError, OSError, TypeError, KeyError, AttributeError):
            return "was deleted"
        return None if is_same else "was replaced"
