"""The last screen of a story: it fits a terminal, and does not boast."""

from dataclasses import replace

from groundup.cli.ending_view import ending_lines
from groundup.story.ending import Ending, Exchange
from groundup.story.passage import passage

ENDING = Ending(
    run="runs/story",
    text="the works of Shakespeare",
    n_parameters=1_872_000,
    n_threads=2,
    device="cpu",
    train_s=121.0,
    elapsed_s=262.0,
    n_passes=1.31,
    bits_per_byte=2.058,
    xz_bits_per_byte=2.422,
    ngram_bits_per_byte=2.485,
    classifier={"n": 400, "n_right": 368, "n_right_baseline": 234, "baseline": "word TF-IDF"},
    lines=("IAGO.", *(f"What, {'good ' * k}my lord?" for k in range(8))),
    exchange=Exchange(
        you="OTHELLO", said="Do you love me?", speaker="IAGO", answer="Ay, sir.\n" + "And so " * 30
    ),
)


def test_the_screen_fits_a_terminal() -> None:
    lines = ending_lines(ENDING)
    assert max(map(len, lines)) <= 78
    assert len(lines) <= 24
    screen = "\n".join(lines)
    assert "1.87 million parameters" in screen
    assert "the works of Shakespeare 1.3 times in 2.0 minutes on 2 CPU threads." in " ".join(lines)
    assert "It beats xz by 15 %: 2.058 bits per byte of new text, 2.422 with xz." in screen
    assert "92 % of 400 right, 58 % by word TF-IDF" in screen
    assert "    OTHELLO > Do you love me?\n    IAGO    > Ay, sir.\n              And so " in screen


def test_a_model_that_loses_does_not_boast() -> None:
    lost = replace(
        ENDING, bits_per_byte=2.5, elapsed_s=None, classifier=None, lines=(), exchange=None
    )
    screen = " ".join(ending_lines(lost))
    assert "It does not beat xz" in screen
    assert "beats" not in screen
    assert "All stages" not in screen


def test_a_passage_has_six_lines_of_verse_or_prose() -> None:
    speech = "ROMEO.\nAy me, what light is this?\n\n[Exit.]\n\n"
    found = passage(speech * 9, ["ROMEO."])
    assert found == ("ROMEO.", "Ay me, what light is this?", "[Exit.]") * 3
    verse = "\n".join(f"this is line {k} of a song" for k in range(20))
    assert passage(verse) == tuple(f"this is line {k} of a song" for k in range(6))
    prose = passage("a sentence of some words. " * 60)
    assert len(prose) == 6
    assert max(map(len, prose)) <= 70
    assert passage("") == ()
