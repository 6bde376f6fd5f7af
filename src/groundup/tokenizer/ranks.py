"""Read and write tiktoken's ranks: one line per token with its bytes in base64 and its rank."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import write_text
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.round_trip import check_round_trip
from groundup.tokenizer.special import END_OF_TEXT, SPECIAL_TOKENS
from groundup.tokenizer.table import Pair


@dataclass(frozen=True)
class Published:
    """What tiktoken's own code adds to the ranks of an encoding.

    Source: `tiktoken_ext/openai_public.py`.
    """

    pattern: str
    n_ranks: int
    special_tokens: dict[str, int] = field(default_factory=dict)

    def special_tokens_for(self, path: Path) -> Sequence[str] | dict[str, int]:
        """Return the published special tokens; ours for other ranks under the same name."""
        try:
            n_lines = sum(1 for line in path.read_bytes().splitlines() if line)
        except OSError:
            return SPECIAL_TOKENS
        return self.special_tokens if n_lines == self.n_ranks else SPECIAL_TOKENS


_FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_CASED = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_CASED[0]}*{_CASED[1]}+{_CONTRACTION}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_CASED[0]}+{_CASED[1]}*{_CONTRACTION}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PUBLISHED = {
    "gpt2": Published(PATTERNS["gpt2"], 50256, {END_OF_TEXT: 50256}),
    "r50k": Published(PATTERNS["gpt2"], 50256, {END_OF_TEXT: 50256}),
    "p50k": Published(PATTERNS["gpt2"], 50280, {END_OF_TEXT: 50256}),
    "cl100k": Published(
        PATTERNS["gpt4"],
        100256,
        {END_OF_TEXT: 100257}
        | {name: 100258 + i for i, name in enumerate(_FIM)}
        | {"<|endofprompt|>": 100276},
    ),
    "o200k": Published(_O200K, 199998, {END_OF_TEXT: 199999, "<|endofprompt|>": 200018}),
}
"""By a part of the file's name."""


def published(path: Path) -> Published | None:
    """Find the encoding that a file is named after."""
    return next((known for name, known in PUBLISHED.items() if name in path.name), None)


def load_tiktoken(
    path: Path,
    pattern: str,
    special_tokens: Sequence[str] | Mapping[str, int] = SPECIAL_TOKENS,
) -> BPETokenizer:
    """Read a `.tiktoken` file: one line per token with its bytes in base64 and its rank, the id.

    The file contains neither pattern nor special tokens; names alone get the ids after the last
    rank. The merges are reconstructed: a token was merged from the two parts that its bytes merge
    into with the tokens before it.

    Raises:
        UserError: A line is not a token, or a token cannot be the result of merges.
    """
    given = dict(special_tokens) if isinstance(special_tokens, Mapping) else {}
    taken = set(given.values())
    table: list[bytes] = []
    line_of: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line:
            continue
        while len(table) in taken:
            table.append(b"")
        try:
            spelled, rank = line.split()
            token = base64.b64decode(spelled, validate=True)
            if not rank.isdigit() or len(rank) > 9 or int(rank) != len(table):
                raise ValueError(
                    f"rank {rank[:20].decode(errors='replace')} in place of {len(table)}"
                )
            if not token or line_of.setdefault(token, number) != number:
                raise ValueError(f"{token!r} is in line {line_of.get(token, number)} already")
        except ValueError as error:
            raise UserError(
                f"This line is not a token ({error}). "
                "Bytes in base64, a space and the rank are expected.",
                where=f"{path}:{number}",
            ) from error
        table.append(token)
    special = given or {name: len(table) + i for i, name in enumerate(special_tokens)}
    merges = _find_merges(table, path)
    try:
        made = BPETokenizer(merges, pattern=pattern, special_tokens=special, token_table=table)
    except UserError as error:
        raise UserError(error.message, where=path, settings=error.settings) from error
    check_round_trip(made, path)
    return made


def save_tiktoken(tokenizer: BPETokenizer, path: Path) -> None:
    """Write the ordinary tokens as tiktoken's ranks.

    Raises:
        UserError: Their ids are not in the order of the merges, or special tokens are among them.
    """
    special = set(tokenizer.special_tokens.values())
    table = [token for i, token in enumerate(tokenizer.token_table) if i not in special]
    every = tokenizer.token_table
    made = [tokenizer.id_of(every[left] + every[right]) for left, right in tokenizer.merges]
    if min(special, default=len(table)) < len(table) or made != sorted(made):
        raise UserError(
            "The ids of this vocabulary are not in the order of its merges, as tiktoken's files "
            "require. The format of tokenizer.json can represent it.",
        )
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(table)]
    write_text(path, "\n".join(lines) + "\n")


def _find_merges(table: list[bytes], where: Path) -> list[Pair]:
    id_of = {token: index for index, token in enumerate(table)}
    merges = []
    for index, token in enumerate(table):
        if len(token) < 2:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            ranks = [
                id_of.get(left + right, index)
                for left, right in zip(parts[:-1], parts[1:], strict=True)
            ]
            best = min(ranks)
            if best >= index:
                break
            at = ranks.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) != 2 or not all(part in id_of for part in parts):
            raise UserError(
                f"Token {index} ({token!r}) cannot be merged from two earlier tokens. "
                "The ranks of a byte-level BPE tokenizer are expected.",
                where=where,
            )
        merges.append((id_of[parts[0]], id_of[parts[1]]))
    return merges
