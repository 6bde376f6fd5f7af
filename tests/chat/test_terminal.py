"""The chat loop and its commands, without a terminal."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
from small_chat import TOKENIZER, conversation, real

from groundup.base.terminated import Terminated
from groundup.chat.conversation import Conversation
from groundup.chat.terminal import Outcome, converse
from groundup.finetune.instruct.config import InstructConfig
from groundup.records.conversations import read_conversations
from groundup.tokenizer.template import Message, render_prompt

Line = str | type[BaseException] | None


def talk(
    chat: Conversation, lines: list[Line], *, interactive: bool = True
) -> tuple[list[str], list[str], int]:
    """What is written as answers, what is said besides, and the number of answers."""
    left, written = list(lines), [""]
    said: list[str] = []

    def read() -> str | None:
        line = left.pop(0) if left else None
        if isinstance(line, type):
            raise line
        return line

    def write(piece: str) -> None:
        written[0] += piece

    outcome = converse(chat, read, write, said.append, interactive=interactive)
    return written[0].splitlines(), said, outcome.n_answered


def test_a_conversation_answers_and_obeys() -> None:
    chat = conversation("hello", "see you", context_length=60)
    answers, said, n_answered = talk(
        chat, ["hi", "", "/reset", "/dance", "a" * 60, "bye", "/quit", "never"], interactive=False
    )
    assert (answers, n_answered) == (["hello", "", "see you"], 2)
    assert said[0] == "The conversation was cleared."
    assert said[1].startswith("There is no command /dance. /help lists the commands.")
    assert said[2] == (
        "The question takes 63 tokens with the chat template. At most 40 fit beside an answer of "
        "20. Ask a shorter question, or allow shorter answers."
    )
    assert len(said) == 3


def test_each_answer_names_the_speaker_on_a_terminal() -> None:
    answers, _, _ = talk(conversation("hello", "see you"), ["hi", " /bye\n/bye", "/quit"])
    assert answers == ["story > hello", "story > see you"]


def test_turns_that_do_not_fit_are_left_out_with_the_counts() -> None:
    _, said, n = talk(conversation(*["abcde"] * 4, context_length=60), ["q" * 9] * 4)
    assert n == 4
    assert said == [
        "The conversation has 48 tokens, and 40 fit into the context of 60 beside an answer. Its "
        f"oldest exchange is left out, {k} since the beginning."
        for k in (1, 2)
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/temp", "Did you mean /temperature?"),
        ("/tmperature 1", "Did you mean /temperature?"),
        ("/topk", "Did you mean /top-k or /top-p?"),
        ("/exit", "Did you mean /quit?"),
        ("/with ROMEO", "/help lists"),  # there are no characters
        ("/", "There is no command /. /help"),
        ("/usr/bin/python", "A message may begin with a slash after a space."),
    ],
)
def test_an_unknown_command_names_the_nearest(typed: str, meant: str) -> None:
    _, said, n = talk(conversation(), [typed])
    assert meant in said[0]
    assert n == 0


def test_settings_are_changed_and_shown_and_checked() -> None:
    chat = conversation()
    lines: list[Line] = [
        "/temperature 0.7", "/temperature", "/top-k 5", "/top-k none", "/top-p 7", "/min-p nan",
        "/seed x", "/max-new-tokens 100", "/max-new-tokens 30",
    ]  # fmt: skip
    _, said, _ = talk(chat, lines)
    assert said == [
        "temperature: 0.7",
        "temperature: 0.7",
        "top-k: 5",
        "top-k: off",
        "top_p is 7.0. A number above 0 and at most 1, or none, is expected.",
        "min_p is nan. A number from 0 to 1, or none, is expected.",
        "seed is 'x'. A whole number of at least 0 is expected.",
        "An answer of 100 tokens does not fit into a context of 100. At least 1 token, and less "
        "than the context, is expected. Try: /max-new-tokens 50",
        "max-new-tokens: 30",
    ]
    assert chat.session.max_new_tokens == 30  # type: ignore[union-attr]
    _, (shown,), _ = talk(chat, ["/help"])
    assert max(map(len, shown.splitlines())) <= 80
    assert "Sampling temperature; 0: the most likely token. Now 0.7." in shown


def test_settings_change_the_answers() -> None:
    """With equal seeds they are equal; with another temperature or seed they are others."""

    def answers(*lines: str) -> list[str]:
        return [each.answer for each in asked(*lines).session.exchanges]

    def asked(*lines: str) -> Conversation:
        chat = real()
        talk(chat, list(lines))
        return chat

    greedy = answers("hi", "/reset", "hi")
    hot = answers("/temperature 3", "hi")
    assert greedy == answers("/top-k 1", "/temperature 3", "hi") != hot
    assert answers("/temperature 3", "hi", "/undo", "/seed 0", "hi") == hot
    assert answers("/temperature 3", "/seed 9", "hi") != hot
    again = asked("/temperature 3", "hi", "/retry")
    assert [each.answer for each in again.session.exchanges] != hot
    assert again.session.messages[0].content == "hi"
    _, said, n = talk(real(), ["/retry", "hi", "/retry"])
    assert n == 1
    assert said[0] == "Nothing was answered yet."
    assert said[-1].startswith("With temperature 0 the answer would be the same.")


def test_a_retry_that_gives_no_answer_keeps_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = real(context_length=100)
    talk(chat, ["a question of many tokens with an answer"])
    before, tokens = chat.session.exchanges, chat.generator.tokens
    assert len(before) == 1
    _, said, n = talk(chat, ["/temperature 1", "/max-new-tokens 90", "/retry"])
    assert n == 0
    assert "tokens with the chat template" in said[-1]
    assert (chat.session.exchanges, chat.generator.tokens) == (before, tokens)

    def stopped(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(chat.generator._decoder, "hidden", stopped)
    _, said, _ = talk(chat, ["/max-new-tokens 20", "/retry"])
    assert said[-1] == "The answer was stopped."
    assert (chat.session.exchanges, chat.generator.tokens) == (before, tokens)
    monkeypatch.undo()
    talk(chat, ["/retry"])
    assert [each.question for each in chat.session.exchanges] == [before[0].question]
    assert chat.session.exchanges != before


def test_an_answer_of_the_maximum_length_is_said_to_be_cut() -> None:
    chat = real()
    _, said, _ = talk(chat, ["/max-new-tokens 3", "hi"])
    assert len(chat.generator.tokens) == 3
    assert said[1] == "The answer was cut after 3 tokens. /max-new-tokens 6 allows longer answers."
    _, said, _ = talk(chat, ["/max-new-tokens 150", "hi"])
    assert said[1] == "The answer was cut after 150 tokens."


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize("interactive", [True, False])
def test_ctrl_c_stops_an_answer_and_sigterm_ends_the_chat(
    kind: type[BaseException], interactive: bool
) -> None:
    chat = conversation("a long answer", "well")
    n = 0

    def write(piece: str) -> None:
        nonlocal n
        n += 1
        if n == 4:  # after the name and "a "
            raise kind

    said: list[str] = []
    lines = iter(["hi", "and?", None])
    if interactive and kind is KeyboardInterrupt:
        outcome = converse(chat, lambda: next(lines), write, said.append, interactive=True)
        assert outcome == Outcome(n_answered=1, n_failed=0)
        assert said == ["The answer was stopped. What was written of it is kept."]
        assert [each.answer for each in chat.session.exchanges] == ["a l", "well"]
    else:
        with pytest.raises(kind):
            converse(chat, lambda: next(lines), write, said.append, interactive=interactive)
        assert chat.session.exchanges[0].answer.startswith("a l")  # partial, and kept


def test_ctrl_c_at_the_prompt_does_not_end_the_chat() -> None:
    answers, said, _ = talk(conversation("hello"), [KeyboardInterrupt, "hi", None])
    assert answers == ["story > hello"]
    assert said == ["Ctrl-D or /quit ends the chat."]
    with pytest.raises(KeyboardInterrupt):
        talk(conversation("hello"), [KeyboardInterrupt], interactive=False)


def test_what_was_read_is_not_used_again_after_a_step_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C may come between two layers, or while rows move in memory."""
    chat, undisturbed = real(), real()
    decoder = chat.generator._decoder
    usual = decoder.hidden

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(decoder, "hidden", usual)
        raise KeyboardInterrupt

    lines: list[Line] = ["a question of more than sixteen tokens", "and on"]
    talk(chat, lines[:1])
    monkeypatch.setattr(decoder, "hidden", interrupted)
    n_before = decoder.n_computed
    _, said, _ = talk(chat, lines[1:])
    assert said == ["The answer was stopped."]
    talk(chat, lines[1:])
    n_ids = len(render_prompt(chat.session.messages[:-1], TOKENIZER))  # type: ignore[union-attr]
    assert decoder.n_computed - n_before >= n_ids
    talk(undisturbed, lines)
    assert undisturbed.generator._decoder.n_computed < decoder.n_computed
    assert chat.session.exchanges == undisturbed.session.exchanges


def test_an_answer_without_text_that_was_stopped_leaves_no_question() -> None:
    chat = conversation("hello")
    answer = chat.ask("hi")
    answer.close()
    assert chat.session.exchanges == []
    stopped = chat.session.ask("hi")

    def speak(ids, n):
        raise KeyboardInterrupt
        yield

    chat.session._speak = speak  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        next(stopped)
    assert chat.session.exchanges == []


def test_a_saved_conversation_is_read_by_instruct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chat = conversation("hello", "", "see\nyou")
    assert chat.is_saved
    _, said, _ = talk(chat, ["/save x", "hi", "and?", "bye", "/save talk", "/save talk.txt"])
    assert said == [
        "Nothing was answered yet, so there is nothing to save.",
        "Saved to talk.jsonl and talk.txt.",
        "talk.txt: This exists already. Choose another name, for example talk-2.txt.",
    ]
    assert chat.is_saved
    (read,) = read_conversations(tmp_path / "talk.jsonl", InstructConfig())
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "bye"), ("assistant", "see\nyou")]
    assert [(m.role, m.content) for m in read.messages] == turns
    text = (tmp_path / "talk.txt").read_text()
    assert text.startswith("user:\nhi\n\nassistant:\nhello\n\nuser:\nand?\n")
    chat.session.system = "Be kind."
    talk(chat, ["/undo", "/save Mine.jsonl"])
    record = json.loads((tmp_path / "Mine.jsonl").read_text())
    assert [m["role"] for m in record["messages"]] == ["system", "user", "assistant"]


def test_what_cannot_be_saved_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    chat = conversation("hello")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    _, said, _ = talk(chat, ["hi", "/save", "/save talk.md", "/save file/talk.txt"])
    assert said[0] == "/save needs the name of a file, for example /save chat.jsonl."
    assert said[1].startswith("The name ends in .md. .jsonl for records, .txt for text")
    assert said[2] == "file: No file can be written here (it is not a folder)."
    names = ["~nobody-here/talk", "x" * 300, "x" * 252, "a\0b", "a\ud800b"]
    _, said, _ = talk(chat, [f"/save {name}" for name in names])
    assert all("cannot be used as a file" in line for line in said)
    assert len(said) == len(names)
    monkeypatch.setattr(Path, "write_bytes", full)
    _, said, _ = talk(chat, ["/save talk.txt"])
    assert said[0].startswith("talk.txt: This cannot be written (No space left on device)")
    assert not chat.is_saved
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_why_shows_what_the_model_nearly_said() -> None:
    chat = real()
    _, said, _ = talk(chat, ["/why", "hello", "/why", "/undo", "/why"])
    assert (
        said[0] == said[-1] == ("There is no answer of the model to explain. Ask a question first.")
    )
    table = said[-3].splitlines()
    assert max(map(len, table)) <= 80
    talk(chat, ["hello"])
    found = chat.uncertain()
    assert len(found) == len(table) - 3 == 5
    drawn = [math.exp(t.logprobs.drawn) for t in chat.generator.tokens if t.logprobs is not None]
    assert len(drawn) == 20
    assert sorted(token.probability for token in found) == sorted(drawn)[:5]
    for token in found:
        assert len(token.alternatives) == 3
        assert token.text not in [text for text, _ in token.alternatives]
        # At temperature 0 no alternative is more likely.
        assert token.probability >= token.alternatives[0][1] >= token.alternatives[2][1]
        assert chat.session.exchanges[0].answer.startswith(token.before)


def test_a_message_of_the_template_is_one_of_the_user() -> None:
    chat = conversation("hello")
    talk(chat, [" /reset me"])
    assert chat.session.messages[0] == Message("user", "/reset me")  # type: ignore[union-attr]
