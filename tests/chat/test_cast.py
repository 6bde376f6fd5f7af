"""The cast of plays: found in a text, and a scene with it."""

from collections.abc import Callable

import pytest
from small_chat import around

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


def test_speeches_that_nobody_answers_are_no_cast() -> None:
    assert find_cast([f"{cue}.\nAy me!" for cue in ("ROMEO", "JULIET", "NURSE")] * 20) is None


def session(
    replies: list[str], n_fit: int = 10_000, character: str | None = "Juliet"
) -> tuple[CastSession, list[str]]:
    prompts: list[str] = []

    def continued(text: str) -> str:
        prompts.append(text)
        return replies[min(len(prompts), len(replies)) - 1]

    assert CAST is not None
    chat = CastSession(
        continued,
        CAST,
        count_tokens=len,
        room=lambda: (n_fit, n_fit + 10),
        character=character,
        facts={"Who are you?": "I am story, a language model."},
    )
    return chat, prompts


def said(chat: CastSession, text: str) -> str:
    return "".join(chat.ask(text))


def test_a_scene_goes_on_and_forgets_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    chat, prompts = session(["Ay, sir.\nGood ni", "No.", "Never."], n_fit=45)
    assert said(chat, " Do you love me? ") == "Ay, sir."  # without the sentence that was cut
    you = chat.you
    assert prompts[0] == f"{you}\nDo you love me?\n\nJuliet.\n"
    assert said(chat, "Why?") == "No."
    assert prompts[1] == f"{you}\nWhy?\n\nJuliet.\n"
    assert said(chat, "O!") == "Never."
    assert prompts[2] == f"{you}\nWhy?\n\nJuliet.\nNo.\n\n{you}\nO!\n\nJuliet.\n"
    assert "has 63 tokens, and 45 fit" in caplog.text
    assert [each.question for each in chat.exchanges] == ["Do you love me?", "Why?", "O!"]
    with pytest.raises(UserError, match=r"takes 11\d tokens .* At most 45 fit"):
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
    lines = iter(["Well?", "/with romeo", "/with nobody", "/with", "Well?", "/undo", "/quit"])
    screen: list[str] = []
    say: Callable[[str], None] = lambda line: screen.append(f"{line}\n")  # noqa: E731
    talk = around(chat)
    assert converse(talk, lambda: next(lines), screen.append, say, interactive=True).n_answered == 2
    assert "".join(screen).splitlines() == [
        "Juliet > Ay.",
        "You speak as Juliet, and ROMEO answers.",
        "There is no character 'nobody'. Some of the 3 characters are Juliet, NURSE, ROMEO.",
        "/with needs a name. Some are Juliet, NURSE, ROMEO.",
        "ROMEO > Ay.",
        "Removed with its answer: Well?",
    ]
    assert prompts[1] == "Juliet.\nWell?\n\nROMEO.\n"
    assert chat.exchanges == []


def test_a_cast_of_one_pair() -> None:
    cast = Cast(cues=("A.", "B."), partners={"A.": "B.", "B.": "A."})
    assert cast.cue(None) == "A."
