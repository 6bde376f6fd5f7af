"""Generate text: the engine, which knows ids only, with the tokenizer of the model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from groundup.base.errors import UserError
from groundup.evaluation.decoders import decoder_of
from groundup.generation.choices import Choices
from groundup.generation.constraint import Constraint
from groundup.generation.decoder import Decoder, Form
from groundup.generation.engine import Engine
from groundup.generation.grammar import GrammarTokens
from groundup.generation.request import Request
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.words import WordTokenizer, split_words

_NO_SPACE_BEFORE = ",.:;?!\"()'"


def text_engine(
    language_model: Any,
    *,
    form: Form = "float32",
    deterministic: bool = False,
    max_rows: int = 16,
) -> Engine:
    """Make an engine whose events have text.

    Raises:
        UserError: The form is "file", and the weights of the model are not quantized.
    """
    decoder = decoder_of(
        language_model.model, language_model.path, form=form, deterministic=deterministic
    )
    return Engine(decoder, max_rows=max_rows, token_bytes=token_bytes(language_model.tokenizer))


def prompt_ids(language_model: Any, text: str) -> list[int]:
    """Encode a prompt, after the ids that the tokenizer begins with.

    For an empty prompt they are the ids that begin a text.

    Raises:
        UserError: The text is empty, and the model has no token that begins a text.
    """
    tokenizer = language_model.tokenizer
    begin: list[int] = getattr(tokenizer, "begin_ids", [])
    ids: list[int] = [*begin, *tokenizer.encode(text)] or language_model.start_ids
    if not ids:
        raise UserError(
            "The text is empty, and the model has no token that begins a text. A text to "
            "continue is expected."
        )
    return ids


def continued_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode a text that goes on after another one; some tokenizers put a space before a text."""
    if isinstance(tokenizer, ImportedTokenizer):
        return tokenizer.encode(text, is_continued=True)
    return tokenizer.encode(text)


def stream_text(engine: Engine, request: Request) -> Iterator[str]:
    """Yield the text of a request in pieces of complete characters.

    Raises:
        UserError: A token cannot be drawn.
    """
    handle = engine.submit(request)
    try:
        while not handle.is_finished:
            for event in engine.step():
                if event.error is not None:
                    raise event.error
                if event.text:
                    yield event.text
    finally:
        handle.cancel()


def constraint_of(
    language_model: Any,
    choices: Sequence[str] = (),
    json_schema: Mapping[str, Any] | str | None = None,
) -> Callable[[], Constraint] | None:
    """Make the constraint of a request; None without choices and schema.

    A model of words writes a choice as it writes any text, with a space before each word.

    Raises:
        UserError: Both are given, or one of them cannot be used.
    """
    if choices and json_schema is not None:
        raise UserError("Choices and a JSON schema are given. Only one of the two is expected.")
    if not choices and json_schema is None:
        return None
    if choices:
        tokens, special_ids = _tokens(language_model)
        if isinstance(language_model.tokenizer, WordTokenizer) and not isinstance(choices, str):
            choices = ["".join(map(_with_space, split_words(choice))) for choice in choices]
        return Choices(choices, tokens, special_ids=special_ids)
    assert json_schema is not None
    return grammar_tokens(language_model).json_schema(json_schema)


def grammar_tokens(language_model: Any) -> GrammarTokens:
    """Make the tokens of a model in the form that constraints to a JSON schema need.

    Raises:
        UserError: llguidance is not installed.
    """
    tokens, special_ids = _tokens(language_model)
    return GrammarTokens(tokens, special_ids=special_ids)


def _tokens(language_model: Any) -> tuple[list[bytes], set[int]]:
    """The bytes of each token, and the ids that are no text."""
    tokenizer, V = language_model.tokenizer, language_model.model.config.vocab_size
    bytes_of = token_bytes(tokenizer)
    tokens = [bytes_of(i) if i < tokenizer.vocab_size else b"" for i in range(V)]
    return tokens, {*tokenizer.special_tokens.values(), *language_model.stop_ids}


def choice_probabilities(
    decoder: Decoder, ids: Sequence[int], choices: Sequence[Sequence[int]]
) -> list[float]:
    """Compute how likely each continuation is, given that it is one of them.

    The probability of a continuation is the product of those of its tokens, after the prompt.

    Args:
        decoder: Computes the logits.
        ids: Token ids of the prompt.
        choices: Token ids of each continuation.
    """
    row = decoder.new_row(len(ids))
    first = decoder.read(ids, row)
    totals = []
    for choice in choices:
        logits = first
        if len(choice) > 1:
            # A copy: some layers cannot go back to the end of the prompt.
            copy = decoder.copied_row(row, len(ids), len(ids) + len(choice))
            logits = first.new_empty(len(choice), first.shape[1])
            logits[0] = first[0]
            logits[1:] = decoder.read(choice[:-1], copy, n_last=len(choice) - 1)
        logprobs = logits.double().log_softmax(dim=1)
        totals.append(logprobs[range(len(choice)), list(choice)].sum())
    shares: list[float] = first.new_tensor(totals).double().softmax(dim=0).tolist()
    return shares


def token_bytes(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """Return the function from a token to the bytes that it adds to a text.

    Words have the space before them, which their tokenizer drops.
    """
    if not isinstance(tokenizer, WordTokenizer):
        return tokenizer.token_bytes

    def with_space(index: int) -> bytes:
        word = tokenizer.token_bytes(index).decode("utf-8", errors="surrogatepass")
        return _with_space(word).encode("utf-8", errors="surrogatepass")

    return with_space


def _with_space(word: str) -> str:
    return word if word[:1] in _NO_SPACE_BEFORE else f" {word}"
