"""A conversation as ids: the one function that training, chat and server render with.

What a person writes is text. A chat template writes text too, in which the names of special tokens
become their ids; the characters of messages are tracked through the template, so that no such name
is found in them, nor where they meet the template's own text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

from groundup.base.errors import UserError
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.sandbox import at_one_time
from groundup.tokenizer.template import Message, render, render_prompt
from groundup.tokenizer.tracked import Marks
from groundup.tokenizer.words import WordTokenizer

_OTHERS, _ANSWERS = 0, 1
"""Groups of messages: those of the assistant are trained on."""
_SPACE_IN_ANSWER = regex.compile(r"(?<=a)t+(?=a)")


@dataclass(frozen=True)
class _Piece:
    """A special token, or the text between two of them."""

    text: str
    origin: str
    """For each character: "a" from an answer, "p" from another message, "t" from the template."""
    special: int | None
    is_first: bool


def render_ids(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate | None = None,
    *,
    add_generation_prompt: bool = False,
) -> tuple[list[int], list[int]]:
    """Encode a conversation as ids and a loss mask.

    The ids are those of the rendered text, encoded in one piece with special tokens allowed, except
    that no special token comes from a message. They begin with the tokenizer's BOS, if it adds one,
    exactly once.

    Args:
        messages: The conversation.
        tokenizer: The tokenizer of the model.
        template: The chat template. None: the one of assistants that were fine-tuned here.
        add_generation_prompt: Whether to end where the assistant's answer begins.

    Returns:
        The ids, and 1 for each that is an assistant's answer or ends it, 0 for the others.

    Raises:
        UserError: The template is invalid or refuses the messages, or the tokenizer lacks tokens.
    """
    if template is None:
        if add_generation_prompt:
            ids = render_prompt(messages, tokenizer)
            return ids, [0] * len(ids)
        return render(messages, tokenizer)
    ids, mask = [], []
    is_open = False  # an answer whose end has not come
    with at_one_time():
        pieces = _pieces(messages, tokenizer, template, add_generation_prompt)
    for piece in pieces:
        if piece.special is not None:
            ids.append(piece.special)
            mask.append(int(is_open))
            is_open = False
            continue
        last = piece.origin.rfind("a")
        # White space between an answer and the token that ends it is a part of the end.
        is_open = last >= 0 and not piece.text[last + 1 :].strip()
        for index, start, stop in _encoded(piece, tokenizer):
            ids.append(index)
            mask.append(int("a" in piece.origin[start:stop] or (is_open and start > last)))
    begin = tokenizer.begin_ids if isinstance(tokenizer, ImportedTokenizer) else []
    if ids[: len(begin)] != begin:
        ids, mask = [*begin, *ids], [0] * len(begin) + mask
    return ids, mask


def turn_end(tokenizer: Tokenizer, template: ChatTemplate) -> int | None:
    """Return the special token that ends an assistant's answer. None: there is none."""
    messages = [Message("user", "Hi"), Message("assistant", "Hello")]
    ids, mask = render_ids(messages, tokenizer, template)
    special = set(tokenizer.special_tokens.values())
    ends = [index for index, counts in zip(ids, mask, strict=True) if counts and index in special]
    return ends[-1] if ends else None


def answers_begin_with_space(tokenizer: Tokenizer, template: ChatTemplate | None) -> bool:
    """Whether an answer begins with a space that is no part of it: SentencePiece puts one there."""
    is_foreign = template is not None or isinstance(tokenizer, ImportedTokenizer)
    return isinstance(tokenizer, WordTokenizer) or (
        is_foreign and tokenizer.decode(tokenizer.encode("a")).startswith(" ")
    )


def _pieces(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    add_generation_prompt: bool,
) -> list[_Piece]:
    names = tokenizer.special_tokens
    plain = template.render(
        [vars(message) for message in messages], add_generation_prompt=add_generation_prompt
    )
    contents = "".join(message.content for message in messages)
    marks = Marks(
        contents + template.source + plain + "".join(names),
        marks_space=any(c.isspace() for name in names for c in name),
    )
    groups = [_ANSWERS if message.role == "assistant" else _OTHERS for message in messages]
    tracked = template.render(
        [
            {"role": message.role, "content": marks.text(message.content, group)}
            for message, group in zip(messages, groups, strict=True)
        ],
        add_generation_prompt=add_generation_prompt,
    )
    tracked = str.__getitem__(tracked, slice(None))
    found = list(_cut(tracked, str.translate(tracked, marks.shown), tokenizer))
    letters = {_OTHERS: "p", _ANSWERS: "a"}
    origin = "".join(letters[marks.groups[c]] if c in marks.groups else "t" for c in tracked)
    shown = marks.show(tracked)
    if shown != plain:
        raise UserError(
            "The chat template changes the text of a message in a way that cannot be followed, so "
            "that the text might become special tokens. Another message is expected.",
            where=template.where,
        )
    origin = _with_space(origin, shown)
    return [
        _Piece(shown[start:stop], origin[start:stop], special, start == 0)
        for start, stop, special in found
    ]


def _with_space(origin: str, shown: str) -> str:
    """Give white space between two characters of an answer to the answer: it has no marks.

    >>> _with_space("tatta", ":a  b")
    'taaaa'
    """

    def whose(found: regex.Match[str]) -> str:
        is_space = shown[slice(*found.span())].isspace()
        return "a" * len(found.group()) if is_space else found.group()

    given: str = _SPACE_IN_ANSWER.sub(whose, origin)
    return given


def _cut(tracked: str, shown: str, tokenizer: Tokenizer) -> Iterator[tuple[int, int, int | None]]:
    """Cut a rendered text at the special tokens that the template wrote."""
    flags = {}
    names = dict(tokenizer.special_tokens)
    if isinstance(tokenizer, ImportedTokenizer):
        flags = {token["content"]: token for token in tokenizer.added_tokens}
    find = sorted({*names, *flags}, key=len, reverse=True)
    done = 0
    if find:
        for match in regex.finditer("|".join(map(regex.escape, find)), tracked):
            (start, stop), name = match.span(), match.group()
            flag = flags.get(name, {})
            if name not in names or (flag.get("single_word") and _is_in_word(shown, start, stop)):
                continue
            while flag.get("lstrip") and start > done and shown[start - 1].isspace():
                start -= 1
            while flag.get("rstrip") and stop < len(shown) and shown[stop].isspace():
                stop += 1
            start = max(start, done)
            if start > done:
                yield done, start, None
            yield start, stop, names[name]
            done = stop
    if done < len(tracked):
        yield done, len(tracked), None


def _is_in_word(text: str, start: int, stop: int) -> bool:
    around = text[max(start - 1, 0) : start] + text[stop : stop + 1]
    return regex.search(r"\w", around) is not None


def _encoded(piece: _Piece, tokenizer: Tokenizer) -> list[tuple[int, int, int]]:
    """Encode a piece as ids, each with the characters that it stands for."""
    if isinstance(tokenizer, ImportedTokenizer):
        return tokenizer.encode_with_places(piece.text, is_continued=not piece.is_first)
    ids = tokenizer.encode(piece.text)
    # Which character each byte belongs to.
    owner = [i for i, c in enumerate(piece.text) for _ in c.encode("utf-8", errors="surrogatepass")]
    found, at = [], 0
    for index in ids:
        n = len(tokenizer.token_bytes(index))
        covered = owner[at : at + n]
        found.append((index, covered[0], covered[-1] + 1) if covered else (index, 0, 0))
        at += n
    return found
