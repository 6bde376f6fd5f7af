"""Key match: the graders accept every reference, and refuse the answers to similar prompts."""

import json
from collections import Counter
from pathlib import Path

import pytest

from groundup.finetune.instruct.keys import Key, key_of
from groundup.text.near_duplicates import nearest


def test_the_shared_data(shared_data: Path) -> None:
    """311 of 1,100 records have a key, and 33 of the book's test set."""
    records = json.loads((shared_data / "instruction-data.json").read_text())
    prompts = [f"{r['instruction']}\n{r['input']}".strip() for r in records]
    keys = [key_of(p, r["output"]) for p, r in zip(prompts, records, strict=True)]
    keyed = [i for i, key in enumerate(keys) if key is not None]
    kinds = Counter(key.kind for key in keys if key is not None)
    assert len(keyed) == 311
    assert sum(935 <= i < 1045 for i in keyed) == 33
    assert kinds == {
        "antonym": 71, "synonym": 60, "conversion": 57, "number": 38, "voice": 35,
        "verb form": 21, "tense": 13, "spelling": 8, "plural": 8,
    }  # fmt: skip
    n_refused, echoes = 0, []
    for i in keyed:
        key = keys[i]
        assert key is not None
        assert key.accepts(records[i]["output"])
        echoes += [key.kind] if key.accepts(prompts[i]) else []
        others = [j for j in range(len(records)) if keys[j] != key]
        ((found, similarity),) = nearest([prompts[i]], [prompts[j] for j in others])
        if similarity >= 0.7:
            n_refused += 1
            assert not key.accepts(records[others[found]]["output"]), prompts[i]
    assert n_refused > 50
    assert Counter(echoes) == {"plural": 1, "number": 1, "spelling": 1, "verb form": 1}


@pytest.mark.parametrize(
    ("prompt", "expected", "right", "wrong"),
    [
        (
            "What is the opposite of 'old'?",
            "The opposite of 'old' is 'young'.",
            ["young", "Young.", "The opposite of 'old' is young.", "It's 'young'? It is young."],
            [
                "",
                "old",
                "The opposite of 'young' is 'old'.",
                "young or small or new or fresh or a b",
            ],
        ),
        (
            "List two antonyms for 'intelligent.'",
            "Two antonyms for 'intelligent' are 'stupid' and 'dumb.'",
            ["Dumb and stupid", "They are 'stupid' and 'dumb'."],
            ["stupid", "intelligent"],
        ),
        (
            "What is the plural form of 'octopus'?",
            "The plural form of 'octopus' can be 'octopuses' or 'octopi'.",
            ["octopi", "The plural is octopuses."],
            ["octopus"],
        ),
        (
            "Convert 50 kilometers to miles.",
            "50 kilometers is approximately 31.07 miles.",
            ["31.07", "That is 31.0686 miles.", "50 km is about 31.07 miles"],
            ["31 miles", "50 kilometers", "31.07 kilometers", "some miles"],
        ),
        (
            "Convert 2 feet to inches.",
            "2 feet is 24 inches.",
            ["24 inch", "It is 24 inches."],
            ["24 feet", "25 inches"],
        ),
        (
            "Convert 2,000 meters to kilometers.",
            "2,000 meters is 2 kilometers.",
            ["2", "It is 2.0 kilometers."],
            ["2000 kilometers", "-2"],
        ),
        (
            "Convert this sentence to passive voice\nThe chef cooked a meal.",
            "A meal was cooked by the chef.",
            ["A meal was cooked by the chef", "Passive voice: a meal was cooked by the chef."],
            ["The chef cooked a meal.", "A meal was cooked."],
        ),
        (
            "Correct the spelling error.\nI will atend.",
            "The correct spelling is 'attend', not 'atend'.",
            ["attend", "It is spelled 'attend'."],
            ["atend"],
        ),
    ],
)
def test_answers(prompt: str, expected: str, right: list[str], wrong: list[str]) -> None:
    key = key_of(prompt, expected)
    assert key is not None
    assert [key.accepts(answer) for answer in right] == [True] * len(right)
    assert [key.accepts(answer) for answer in wrong] == [False] * len(wrong)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Who wrote 'Ulysses'?", "James Joyce."),
        ("What is an antonym of 'soft'?", "It could be hard or rough, as you like it"),
        ("Calculate the interest on $1000 at 4%.", "It is $216.65, in total $1216.65."),
        ("Describe the process of active transport.", "Cells move molecules."),
    ],
)
def test_prompts_without_a_key(prompt: str, expected: str) -> None:
    assert key_of(prompt, expected) is None


def test_a_number_without_digits_is_refused() -> None:
    assert not Key("number", "number", ("0",)).accepts("none")
