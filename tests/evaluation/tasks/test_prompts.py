"""Prompts: examples are never the item itself, and ids are those of the whole text."""

from typing import cast

import pytest
from exported import write_assistant
from task_files import rows, write_model, write_task

from groundup.base.errors import UsageError
from groundup.evaluation.load import load
from groundup.evaluation.task_config import TaskConfig
from groundup.evaluation.tasks.items import read_items
from groundup.evaluation.tasks.prompts import Prompter
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message, Role


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_model(tmp_path_factory.mktemp("model") / "run"))


def items_of(path, found):
    return read_items(write_task(path / "task.jsonl", found), TaskConfig())


def test_an_item_is_never_its_own_example(model, tmp_path):
    items = items_of(tmp_path, rows(12))
    items += items[:3]  # repeated items are the same, too
    prompter = Prompter(model, TaskConfig(shots=4), items)
    shared = []
    for item in items:
        text = prompter.prompt(item).text
        *examples, own = text.split("\n\n")
        assert len(examples) == 4
        assert own == f"{item.question}\nAnswer:"
        assert own not in text[: -len(own)]
        shared.append(tuple(examples))
    # The same examples for all items but those that are examples themselves.
    assert max(shared.count(each) for each in shared) >= len(items) - 8


def test_examples_are_solved(model, tmp_path):
    items = items_of(tmp_path, rows(3))
    text = Prompter(model, TaskConfig(shots=1), items).prompt(items[0]).text
    example = next(i for i in items[1:] if text.startswith(i.question))
    assert (
        text == f"{example.question}\nAnswer: {example.answers[0]}\n\n{items[0].question}\nAnswer:"
    )


def test_the_seed_chooses_the_examples(model, tmp_path):
    items = items_of(tmp_path, rows(30))

    def texts(seed):
        prompter = Prompter(model, TaskConfig(shots=2, task_seed=seed), items)
        return [prompter.prompt(item).text for item in items]

    assert texts(1) == texts(1) != texts(2)


def test_too_few_examples(model, tmp_path):
    items = items_of(tmp_path, rows(3))
    with pytest.raises(UsageError, match="2 items to take examples from, and shots is 3"):
        Prompter(model, TaskConfig(shots=3), items).prompt(items[0])


@pytest.mark.parametrize(
    "prompt", [None, "{question}", "Q: {question} {number} A: ", "{question}{{}}"]
)
def test_ids_are_those_of_the_whole_text(model, tmp_path, prompt):
    found = [{**row, "number": i} for i, row in enumerate(rows(5))]
    items = items_of(tmp_path, found)
    prompter = Prompter(model, TaskConfig(prompt=prompt), items)
    for index, item in enumerate(items):
        made = prompter.prompt(item)
        written = (prompt or "{question}\nAnswer:").format(question=item.question, number=index)
        assert made.text == written
        space = "" if written.endswith(" ") else " "
        for choice, ids in zip(item.choices, made.continuations, strict=True):
            assert made.ids + ids == model.tokenizer.encode(written + space + choice)
            assert model.tokenizer.decode(ids) == " " + choice


def test_a_field_that_is_missing_is_named_and_the_fields_are_listed(model, tmp_path):
    items = items_of(tmp_path, rows(2))
    with pytest.raises(UsageError, match=r"'subject', and this item has no such text \(it has: "):
        Prompter(model, TaskConfig(prompt="{subject}: {question}"), items).prompt(items[0])
    with pytest.raises(UsageError, match="cannot be read"):
        Prompter(model, TaskConfig(prompt="{question"), items).prompt(items[0])


def test_a_model_without_a_chat_template_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match="no chat template"):
        Prompter(model, TaskConfig(template="chat"), [])


def test_an_assistant_is_asked_with_its_template(tmp_path):
    folder, _ = write_assistant(tmp_path / "assistant")
    model = load(folder)
    items = items_of(tmp_path, rows(5))
    prompter = Prompter(model, TaskConfig(shots=1), items)
    assert prompter.is_chat
    made = prompter.prompt(items[0])
    assert isinstance(made.text, list)
    messages = [Message(cast(Role, m["role"]), m["content"]) for m in made.text]
    assert [m.role for m in messages] == ["user", "assistant", "user"]
    assert messages[-1].content == items[0].question
    ids, _ = render_ids(messages, model.tokenizer, None, add_generation_prompt=True)
    assert made.ids == ids
    # What follows the prompt is what training would have put there.
    whole, _ = render_ids([*messages, Message("assistant", items[0].choices[2])], model.tokenizer)
    assert whole[: len(ids) + len(made.continuations[2])] == ids + made.continuations[2]
    assert not Prompter(model, TaskConfig(template="plain"), items).is_chat
