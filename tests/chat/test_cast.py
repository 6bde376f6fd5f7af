"""The cast of plays: found in a text, and a scene with it."""

from collections.abc import Callable

import pytest

from groundup.base.errors import UserError
from groundup.chat.cast import Cast, find_cast
from groundup.chat.cast_session import PROGRAM, CastSession
from groundup.chat.terminal import converse

SCENE = (
    "ROMEO.\nAy me!\n\nJuliet.\nO Romeo,\nRomeo!\n\nNURSE.\nMadam!\n\nJuliet.\nAnon!\n\n[Exit.]\n\n"
)
CAST = find_cast([f"ACT {number}\n\n{SCENE}" for number in range(30)])


def test_the_speakers_of_a_play_are_found() -> None:
    assert CAST is not None
    assert set(CAST.names) == {"Juliet", "NURSE", "ROMEO"}
    assert CAST.cues == ("Juliet.", "NURSE.", "ROMEO.")  # by the exchanges with the partner
    assert CAST.partners == {"Juliet.": "NURSE.", "NURSE.": "Juliet.", "ROMEO.": "Juliet."}
    assert CAST.cue("juliet") == CAST.cue("JULIET.") == "Juliet."
    with pytest.raises(UserError, match="no character 'HAMLET'"):
        CAST.cue("HAMLET")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Some prose, in paragraphs.\n\nAnd more of it.\n\n" * 50,
        "Note:\nread this.\n\nWarning:\nnot that.\n\nHint:\nthis.\n\n" + "A paragraph.\n\n" * 40,
        "Q:\nWhy?\n\nA:\nBecause.\n\n" * 50,  # two speakers are questions and answers
        "import os\n\nclass A:\n    pass\n\n" * 50,
    ],
)
def test_other_texts_have_no_cast(text: str) -> None:
    assert find_cast([text]) is None


def session(
    replies: list[str], n_fit: int = 10_000, character: str | None = "Juliet"
) -> tuple[CastSession, list[str]]:
    prompts: list[str] = []

    def continued(text: str, number: int) -> str:
        prompts.append(text)
        return replies[min(number, len(replies)) - 1]

    assert CAST is not None
    fits: Callable[[str], bool] = lambda text: len(text) <= n_fit  # noqa: E731
    facts = {"Who are you?": "I am story, a language model."}
    return CastSession(continued, CAST, fits=fits, character=character, facts=facts), prompts


def said(chat: CastSession, text: str) -> str:
    return "".join(chat.ask(text))


def test_a_scene_goes_on_and_forgets_its_beginning() -> None:
    chat, prompts = session(["Ay, sir.\nGood ni", "No.", "Never."], n_fit=45)
    assert said(chat, " Do you love me? ") == "Ay, sir."  # without the sentence that was cut
    you = chat.you
    assert prompts[0] == f"{you}\nDo you love me?\n\nJuliet.\n"
    assert said(chat, "Why?") == "No."
    assert prompts[1] == f"{you}\nWhy?\n\nJuliet.\n"
    assert said(chat, "O!") == "Never."
    assert prompts[2] == f"{you}\nWhy?\n\nJuliet.\nNo.\n\n{you}\nO!\n\nJuliet.\n"
    with pytest.raises(UserError, match="too long"):
        said(chat, "word " * 20)


def test_a_blank_answer_is_drawn_again() -> None:
    chat, prompts = session(["\nNURSE.\nMadam", "", "Ay!"])
    assert said(chat, "Well?") == "Ay!"
    assert len(prompts) == 3


def test_questions_about_the_model_are_answered_by_the_program() -> None:
    chat, prompts = session(["I am the king of France."])
    assert said(chat, "who are you") == "I am story, a language model."
    assert (chat.speaker, prompts) == (PROGRAM, [])
    assert said(chat, "Who are you, sir?") == "I am the king of France."
    assert chat.speaker == "Juliet"


def test_the_terminal_lets_another_character_answer() -> None:
    chat, prompts = session(["Ay."])
    lines = iter(["Well?", "/with romeo", "/with nobody", "Well?", "/quit"])
    written: list[str] = []
    assert converse(chat, lambda: next(lines), written.append, speaker=lambda: chat.speaker) == 2
    screen = "".join(written)
    assert screen.startswith("Juliet > Ay.\n")
    assert "You speak as Juliet, and ROMEO answers.\n" in screen
    assert "There is no character 'nobody'" in screen
    assert screen.endswith("ROMEO > Ay.\n")
    assert prompts[1] == "Juliet.\nWell?\n\nROMEO.\n"


def test_a_cast_of_one_pair() -> None:
    cast = Cast(cues=("A.", "B."), partners={"A.": "B.", "B.": "A."})
    assert cast.cue(None) == "A."
