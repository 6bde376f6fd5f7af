"""Scores, baselines and the verdict on them."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from groundup.evaluation.load import load
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.evaluation import (
    Evaluation,
    generate_answers,
    table_of,
    untuned_answers,
)
from groundup.finetune.instruct.examples import read_dataset
from groundup.finetune.instruct.scores import Item, Scored, score, token_f1
from groundup.finetune.instruct.synthetic import Identity
from groundup.generation.generate import generate
from groundup.records.rows import Conversation
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message
from groundup.tokenizer.train_bpe import train_bpe

NOBODY = Identity(name="", n_parameters=1, trained_on="")


def item(prompt: str, reference: str, **more: object) -> Item:
    return Item(messages=(Message("user", prompt),), reference=reference, **more)  # type: ignore[arg-type]


def test_token_f1_against_scikit_learn() -> None:
    """The F1 of two sets is that of a binary classification of all words."""
    metrics = pytest.importorskip("sklearn.metrics")
    words = [f"w{i}" for i in range(9)]
    rng = random.Random(0)
    for _ in range(50):
        a, b = ({w for w in words if rng.random() < 0.4} for _ in range(2))
        expected = metrics.f1_score(
            [w in a for w in words], [w in b for w in words], zero_division=0.0
        )
        assert token_f1(" ".join(sorted(a)) + "!", " ".join(b).upper()) == pytest.approx(expected)
    assert token_f1("the the cat", "the cat cat") == pytest.approx(2 / 3)


def test_echo_and_nearest_on_the_books_split(shared_data: Path) -> None:
    """The figures of the feasibility study: .507 for an echo, .385 for the nearest prompt."""
    tokenizer = train_bpe(["the cat sat on the mat " * 9], 300)
    config = InstructConfig(
        records=shared_data / "instruction-data.json", split="in-order", batch_size=8, steps=1
    )
    dataset = read_dataset(config, tokenizer, 10_000, None, NOBODY)
    examples = dataset.examples()
    assert (len(examples.rows), len(examples.items), len(examples.validation_rows)) == (
        935,
        110,
        55,
    )
    items = examples.items
    echo = [score(i, baselines.echo(i)) for i in items]
    near = [score(i, i.nearest_answer) for i in items]
    assert sum(s.f1 for s in echo) / 110 == pytest.approx(0.507, abs=0.001)
    assert sum(s.f1 for s in near) / 110 == pytest.approx(0.385, abs=0.01)
    assert sum(s.key is not None for s in echo) == 33
    assert sum(bool(s.key) for s in echo) <= 1
    assert sum(i.is_near_duplicate for i in items) in range(30, 70)
    folds = dataset.folds(5, seed=0)
    tested = [i.where for fold in folds for i in fold.items]
    assert sorted(tested) == sorted(c.where for c in dataset.rows.conversations)
    assert not any(i.is_near_duplicate for fold in folds for i in fold.items)


def test_the_order_of_the_file_counts_records_that_do_not_fit(tmp_path: Path) -> None:
    tokenizer = train_bpe(["the cat sat on the mat " * 9], 300)
    answers = ["the cat"] * 18 + ["the cat " * 90] * 2
    records = [{"instruction": f"say {i}", "output": text} for i, text in enumerate(answers)]
    (tmp_path / "a.json").write_text(json.dumps(records))
    config = InstructConfig(records=tmp_path / "a.json", split="in-order", batch_size=8, steps=1)
    assert read_dataset(config, tokenizer, 60, None, NOBODY).sets == ([*range(17)], [], [17])


def test_the_grouped_split_leaves_no_near_duplicate(shared_data: Path) -> None:
    tokenizer = train_bpe(["the cat sat on the mat " * 9], 300)
    config = InstructConfig(records=shared_data / "instruction-data.json", batch_size=8, steps=1)
    dataset = read_dataset(config, tokenizer, 10_000, None, NOBODY)
    examples = dataset.examples()
    assert not any(item.is_near_duplicate for item in examples.items)
    assert dataset.groups is not None
    assert dataset.groups.n_exact_repeats == 25
    assert 100 < len(examples.items) < 120


def test_answers_of_the_engine_are_those_of_generate(run: Path) -> None:
    model = load(run)
    asked = [[Message("user", "the cat " * n)] for n in (1, 3, 2, 1)]
    answers = generate_answers(model, asked, 6)
    for messages, answer in zip(asked, answers, strict=True):
        ids, _ = render_ids(messages, model.tokenizer, None, add_generation_prompt=True)
        room = min(6, model.model.config.context_length - len(ids))
        one = generate(model.model, ids, room, temperature=0.0, stop_ids=model.stop_ids)
        assert answer is not None
        assert answer[0] == model.tokenizer.decode(one)
        assert answer[1] == (len(one) < room)
    assert generate_answers(model, [[Message("user", "the cat " * 50)]], 6) == [None]


def test_every_baseline_is_there(run: Path) -> None:
    model = load(run)
    training = [
        Conversation((Message("user", f"q{i}"), Message("assistant", f"a{i}"))) for i in range(4)
    ]
    items = [item("say it\nnow", "now", nearest_answer="a0")]
    found = untuned_answers(model, items, training, 4, with_baselines=True)
    assert found[baselines.ECHO][0].text == "now"
    assert found[baselines.NEAREST][0].text == "a0"
    assert found[baselines.UNTUNED][0].is_ended is not None
    assert found[baselines.FIRST_SENTENCE][0].text == baselines.first_sentence(
        found[baselines.UNTUNED][0].text
    )
    shots = baselines.with_examples(items[0], training, 3)
    assert [m.content for m in shots] == ["q0", "a0", "q1", "a1", "q2", "a2", "say it\nnow"]
    assert set(untuned_answers(model, items, training, 4, with_baselines=False)) == {"untuned"}


def scored(*f1: float, key: bool | None = None) -> list[Scored]:
    return [Scored(text="", key=key, exact=x == 1, f1=x, n_words=1, is_ended=True) for x in f1]


def evaluation(n: int, tuned: float, **others: float) -> Evaluation:
    answers = {name: scored(*[f1] * n) for name, f1 in others.items()}
    return Evaluation(
        items=[item(f"p{i}", "x", is_near_duplicate=i < n // 2) for i in range(n)],
        answers={**answers, baselines.TUNED: scored(*[tuned] * n)},
    )


def test_the_verdict_is_against_the_best_baseline() -> None:
    found = evaluation(80, 0.6, untuned=0.3, echo=0.5)
    first, key, _, f1 = found.verdict()
    assert first == "On the 40 records without a near duplicate in the training set:"
    assert key == "Key match: no test prompt has a score."
    assert "Token F1: 60.0% against 50.0% (echo): +10.0 points" in f1
    assert "better than every baseline" in f1
    assert "worse than this baseline" in evaluation(80, 0.4, echo=0.5).verdict()[3]
    assert "no clear difference" in evaluation(80, 0.5, echo=0.5).verdict()[3]
    assert (
        "5 prompts are too few to compare (30 are needed)"
        in evaluation(10, 0.6, echo=0.5).verdict()[3]
    )


def test_the_table_and_the_log(tmp_path: Path) -> None:
    found = evaluation(4, 0.6, echo=0.5)
    assert table_of(found, [True] * 4) == [
        ["echo", "-", "0.0%", "50.0%", "1.0", "100%"],
        ["fine-tuned", "-", "0.0%", "60.0%", "1.0", "100%"],
    ]
    found.write(tmp_path / "answers.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["p0", "p1", "p2", "p3"]
    assert [line["has_near_duplicate"] for line in lines] == [True, True, False, False]
    assert lines[0]["answers"]["fine-tuned"]["f1"] == 0.6
    odd = dataclasses.replace(found.answers["echo"][0], text="a\u2028b\x85c\nd")
    found.answers["echo"][0] = odd
    found.write(tmp_path / "answers.jsonl")
    assert Evaluation.read(tmp_path / "answers.jsonl", found.items) == found
    assert Evaluation.read(tmp_path / "answers.jsonl", found.items[1:]) is None
    (tmp_path / "answers.jsonl").write_text("{")
    assert Evaluation.read(tmp_path / "answers.jsonl", found.items) is None
    both = found.joined(found)
    assert len(both.items) == len(both.answers["echo"]) == 8
    some = found.joined(evaluation(4, 0.6))  # a fold in which a baseline could not answer
    assert list(some.answers) == [baselines.TUNED]
    assert len(some.items) == len(some.answers[baselines.TUNED]) == 8
