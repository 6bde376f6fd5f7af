"""Count the tokens of rows with the tokenizer of a run, and read its context length."""

from collections.abc import Sequence
from pathlib import Path

from groundup.base.folder_kinds import find_run
from groundup.evaluation.load import load
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message

_TOKENS_PER_TURN = 2
"""Of the chat template that `instruct` adds to a model without one."""


def count_tokens(
    run: Path, rows: Sequence[str] | Sequence[tuple[Message, ...]]
) -> tuple[list[int], int]:
    """Count the tokens of texts, or of conversations in the model's chat template.

    Returns:
        The numbers of tokens, and the context length of the model.

    Raises:
        UserError: The run has no intact model with a tokenizer, or its chat template refuses a
            conversation.
    """
    model = load(find_run(run))
    tokenizer = model.tokenizer
    n_tokens = []
    for row in rows:
        if isinstance(row, str):
            n_tokens.append(len(tokenizer.encode(row)))
        elif model.can_chat:
            n_tokens.append(len(render_ids(row, tokenizer, model.chat_template)[0]))
        else:
            n_tokens.append(sum(len(tokenizer.encode(m.content)) + _TOKENS_PER_TURN for m in row))
    return n_tokens, model.model.config.context_length
