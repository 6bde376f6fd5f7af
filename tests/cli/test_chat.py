"""`groundup chat` at a terminal and in a pipe."""

import json
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from exported import write_talkative_assistant

from groundup.cli.chat_prompt import ChatPrompt
from groundup.cli.main import main
from groundup.cli.word_wrap import WordWrap


class Terminal:
    """A process of this program at a terminal of 80 columns, and what is on the screen."""

    def __init__(self, words: list[str]) -> None:
        self.screen = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            status = 99
            try:
                status = main(words)
            finally:
                os._exit(status)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, pattern: str, seconds: float = 30) -> str:
        """Read until the screen since the last call matches; return that part."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.plain):
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                pytest.fail(f"{pattern!r} is not in {self.plain!r}")
            if select.select([self._fd], [], [], 0.2)[0]:
                data = os.read(self._fd, 65536).decode(errors="replace")
                if "\x1b[6n" in data:  # it asks where the cursor is
                    self.type("\x1b[1;1R")
                self.screen += data
        part, self.screen = self.plain, ""
        return part

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])", "", self.screen).replace("\r", "")

    def status(self) -> int:
        """Wait for the end, reading what is still written."""
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # no process has it open any more
                data = b""
            self.screen += data.decode(errors="replace")
            if not data:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_talkative_assistant(tmp_path / "chatty")


def test_a_conversation_at_a_terminal(run: Path) -> None:
    terminal = Terminal(["chat", "chatty", "--history", "typed", "--max-new-tokens", "4000"])
    greeting = terminal.wait_for("you >")
    assert "chat with chatty" in greeting.splitlines()[1]
    assert "Prompts to try:\n  Name a color.\n" in greeting
    assert "Messages are kept in typed" in greeting
    terminal.type("first line\x1b\rsecond line\r")  # Esc Enter, Enter
    terminal.wait_for(r"Ann > \S+")
    terminal.type("\x03")  # Ctrl-C stops the answer
    terminal.wait_for(r"The answer was stopped.*\n[^$]*you >")
    terminal.type("\x1b[A")  # up: both lines
    terminal.wait_for("second line")
    terminal.type("\x03")  # at the prompt, it drops what was typed
    terminal.wait_for(r"Ctrl-D or /quit ends the chat[^$]*you >")
    terminal.type("/temperature 0.5\r")
    terminal.wait_for(r"temperature: 0\.5[^$]*you >")
    terminal.type("/save talk\r")
    # Before the next prompt, the terminal would take Ctrl-D for itself.
    terminal.wait_for(r"Saved to talk\.jsonl and talk\.txt[^$]*you >")
    terminal.type("\x04")  # Ctrl-D
    assert terminal.status() == 0
    assert "0 questions answered.\n" in terminal.plain
    question, answer = json.loads(Path("talk.jsonl").read_text())["messages"]
    assert question["content"] == "first line\nsecond line"
    assert answer["content"]
    assert Path("typed").stat().st_mode & 0o077 == 0
    assert "+first line\n+second line\n" in Path("typed").read_text()


def test_sigterm_ends_a_chat_at_a_terminal(run: Path) -> None:
    terminal = Terminal(["chat", "chatty", "--max-new-tokens", "4000"])
    terminal.wait_for("you >")
    terminal.type("hi\r")
    terminal.wait_for(r"Ann > \S+")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.status() == 130


def test_a_pipe_gets_answers_only(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["Hi\n", "/top-k 5\n", "/temprature 1\n", "x" * 4500 + "\n", "Bye", ""])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(lines), raising=False)
    assert main(["chat", "chatty", "--max-new-tokens", "2"]) == 1
    out, err = capsys.readouterr()
    first, failed, last = out.splitlines()
    assert (bool(first), failed, bool(last)) == (True, "", True)
    assert err.endswith("error: 2 lines of the input had an error. See above.\n")
    assert "top-k: 5\n" in err
    assert "Did you mean /temperature?" in err
    assert "At most 4,094 fit beside an answer of 2." in err


def test_weights_that_are_not_quantized_are_refused_with_the_command(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "chatty", "--ask", "Hi", "--quantize", "file"]) == 1
    assert "Try: groundup chat chatty --ask Hi --quantize int8\n" in capsys.readouterr().err


def test_a_history_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Messages cannot be kept in this file"):
        ChatPrompt([], tmp_path)


def pieces(text: str, n: int) -> Iterator[str]:
    yield from (text[i : i + n] for i in range(0, len(text), n))


@pytest.mark.parametrize("n", [1, 3, 50])
def test_lines_break_between_words(n: int) -> None:
    text = "def f():\n    return 1\n\nA sentence of ordinary words, and " + "x" * 40 + " 日本語 end"
    wrap = WordWrap(20)
    written = "".join(map(wrap.push, pieces(text, n))) + wrap.end()
    assert re.sub(r"(?<=[^\n])\n(?=\S)", "", written) == re.sub(r"(?<=[^\n])\n(?=\S)", "", text)
    assert written.startswith("def f():\n    return 1\n\nA sentence of \nordinary words, and \n")
    assert all(len(line) <= 20 or "x" * 40 in line for line in written.splitlines())
