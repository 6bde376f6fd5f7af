"""`groundup chat RUN`: talk to the assistant, ask it one question, or pipe it a list of them."""

import sys
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import quoted
from groundup.chat.terminal import HELP, converse, find_assistant, open_session
from groundup.cli.console import console, heading, next_command, note


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Talk to the assistant of a run."""

    run: Path = Path("runs/pretrain")
    """the run folder that `groundup instruct` has tuned, or an assistant folder itself"""
    ask: str | None = None
    """answer this one question and end"""
    max_new_tokens: int = 48
    """the longest answer, in tokens"""
    temperature: float = 0.0
    """0 takes the likeliest token each time; higher is livelier and more often wrong"""
    top_k: int | None = None
    """draw from the k likeliest tokens only"""
    top_p: float | None = None
    """draw from the likeliest tokens that together reach this probability"""
    seed: int = 0
    """the same seed and questions give the same answers"""
    device: str = "auto"
    """auto, cpu or cuda"""


def run(config: ChatConfig) -> int:
    """Hold the conversation; returns the number of questions answered."""
    session = open_session(
        config.run,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        seed=config.seed,
        device=config.device,
    )
    write = _write
    if config.ask is not None:
        for piece in session.ask(config.ask):
            write(piece)
        write("\n")
        return 1
    if not sys.stdin.isatty():
        # Answers only, one per question, so that the output of a pipe is the list of answers.
        return converse(session, lambda: sys.stdin.readline() or None, write)
    heading(f"chat with {find_assistant(config.run)}")
    note(f"This is a very small model; it knows the lessons it was tuned on. {HELP}.")
    n_answered = converse(session, lambda: console.input("[bold]you[/bold] > "), write)
    questions = "1 question" if n_answered == 1 else f"{n_answered} questions"
    note(f"{questions} answered; nothing of it is stored.")
    next_command(f"groundup chat {quoted(config.run)} --ask 'Which word comes first: old new'")
    return n_answered


def _write(text: str) -> None:
    """Write at once and as it is: an answer may hold brackets that rich would read as markup."""
    sys.stdout.write(text)
    sys.stdout.flush()
