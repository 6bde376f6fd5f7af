"""Evaluations: the right numbers, nothing computed twice, and comparisons of the same items."""

import json

import numpy as np
import pytest
import torch
from exported import write_assistant
from task_files import rows, write_model, write_task

import groundup
from groundup.base.errors import UsageError
from groundup.evaluation.load import load
from groundup.evaluation.tasks.log import ITEMS, RESULT, read_log


@pytest.fixture
def run(tmp_path):
    return write_model(tmp_path / "run")


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "quiz.jsonl", rows())


def evaluate(run, task, on_item=None, **settings):
    return groundup.evaluate_task(run, task=task, on_item=on_item, device="cpu", **settings)


def log_rows(result):
    return [json.loads(line) for line in (result.log / ITEMS).read_text().splitlines()]


@torch.inference_mode()
def likelihood(model, prompt, choice):
    """The log-likelihood by the whole forward pass."""
    ids = model.tokenizer.encode(f"{prompt} {choice}")
    n = len(model.tokenizer.encode(prompt))
    logits = model.model(torch.tensor([ids]))[0, n - 1 : -1].log_softmax(-1)
    return sum(float(logits[i, token]) for i, token in enumerate(ids[n:]))


def test_choices_by_likelihood(run, task, tmp_path):
    result = evaluate(run, task)
    model = load(run)
    right = dict.fromkeys(("acc", "acc_norm", "acc_bytes"), 0)
    logged = {row["index"]: row for row in log_rows(result)}
    assert sorted(logged) == list(range(40))
    for index, item in enumerate(rows()):
        row = logged[index]
        assert row["prompt"] == f"{item['question']}\nAnswer:"
        nats = [likelihood(model, row["prompt"], choice) for choice in item["choices"]]
        assert row["log_likelihoods"] == pytest.approx(nats, abs=1e-4)
        sizes = [len(choice) for choice in item["choices"]]
        right["acc"] += int(np.argmax(nats)) == item["answer"]
        right["acc_norm"] += int(np.argmax(np.divide(nats, sizes))) == item["answer"]
        assert row["answer"] == item["answer"]
        assert row["correct"]["acc"] == (int(np.argmax(nats)) == item["answer"])
    assert result.scores["acc"].n_right == right["acc"]
    assert result.scores["acc_norm"].n_right == right["acc_norm"]
    assert result.scores["acc"].n == 40
    assert 0 < right["acc"] < 40, "a test that cannot tell right from wrong"
    assert result.chance == 0.25
    assert result.baselines["always choice 0"].n_right == 10
    assert len(result.mistakes) == 40 - right["acc"]


@pytest.mark.parametrize("shots", [0, 3])
def test_shared_prefixes_change_nothing_but_the_cost(run, task, shots):
    shared = evaluate(run, task, shots=shots)
    alone = evaluate(run, task, shots=shots, prefix_caching=False)
    a, b = (sorted(log_rows(r), key=lambda row: row["index"]) for r in (shared, alone))
    for left, right in zip(a, b, strict=True):
        assert left["log_likelihoods"] == pytest.approx(right["log_likelihoods"], abs=1e-5)
        assert left["correct"] == right["correct"]
    assert alone.n_computed == alone.n_without_sharing == shared.n_without_sharing
    assert shared.n_computed < alone.n_computed / (2 if shots == 0 else 4)


class StopError(Exception):
    pass


@pytest.mark.parametrize("kind", ["choices", "generation"])
def test_an_evaluation_that_was_interrupted_goes_on(run, tmp_path, kind):
    found = rows()
    if kind == "generation":
        found = [{"question": r["question"], "answer": r["choices"][0]} for r in found]
    task = write_task(tmp_path / f"{kind}.jsonl", found)

    def stop(name, done, total):
        if done == 17:
            raise StopError

    with pytest.raises(StopError):
        evaluate(run, task, stop, max_new_tokens=4)
    (folder,) = (run / "evaluation" / "tasks").glob(f"{kind}-*")
    with open(folder / ITEMS, "a") as file:
        file.write('{"index": 99, "pro')  # as `kill -9` may leave it
    done = []
    result = evaluate(run, task, lambda *each: done.append(each), max_new_tokens=4)
    assert result.n_from_log == 17
    assert len(done) == 23
    assert sorted(row["index"] for row in log_rows(result)) == list(range(40))
    again = evaluate(run, task, max_new_tokens=4)
    assert (again.n_from_log, again.n_computed) == (40, 0)
    assert again.scores == result.scores
    assert again.mistakes == result.mistakes
    whole = evaluate(run, task, max_new_tokens=4, prefix_caching=False)
    assert whole.scores == result.scores


def test_other_settings_weights_and_items_have_logs_of_their_own(run, task, tmp_path):
    first = evaluate(run, task)
    assert evaluate(run, task, shots=1).log != first.log
    assert evaluate(run, task, prompt="{question}").log != first.log
    assert evaluate(run, task, dtype="bfloat16").log != first.log
    examples, logs = tmp_path / "examples.jsonl", set()
    for hint in ("near", "far"):  # a prompt may name it
        shown = [{"question": f"{i}?", "answer": "x", "hint": hint} for i in range(3)]
        examples.write_text("\n".join(map(json.dumps, shown)))
        logs.add(evaluate(run, task, examples=examples, shots=1).log)
    assert len(logs) == 2
    other = write_model(tmp_path / "other", d_model=16)
    assert evaluate(other, task).log.name != first.log.name
    write_task(task, rows(seed=8))
    assert evaluate(run, task).log != first.log


def test_generated_answers(run, tmp_path):
    model = load(run)
    found = []
    for number, row in enumerate(rows()):
        prompt = f"{row['question']}\nAnswer:"
        said = model.generate(prompt, 6, temperature=0, stop=["\n"]).strip()
        found.append({"question": row["question"], "answer": said if number % 2 else "zebra"})
    task = write_task(tmp_path / "say.jsonl", [f for f in found if f["answer"]])
    result = evaluate(run, task, max_new_tokens=6)
    for row in log_rows(result):
        assert row["correct"]["acc"] == (row["answers"] != ["zebra"])
        expected = model.generate(row["prompt"], 6, temperature=0, stop=["\n"])
        assert row["output"] == expected
    assert result.baselines["repeating the question"].n_right == 0
    assert result.baselines["most frequent answer"].n_right >= 20
    assert result.chance is None


def test_a_comparison_is_item_by_item(run, task, tmp_path):
    other = write_model(tmp_path / "other", d_model=16)
    result = evaluate(run, task, against=other)
    a = {row["index"]: row["correct"]["acc"] for row in log_rows(result)}
    theirs = evaluate(other, task)
    assert theirs.n_computed == 0  # the comparison has left their log
    b = {row["index"]: row["correct"]["acc"] for row in log_rows(theirs)}
    (acc, *_) = result.comparison.metrics
    assert (acc.metric, acc.n) == ("acc", 40)
    assert acc.n_both == sum(a[i] and b[i] for i in a)
    assert acc.n_neither == sum(not a[i] and not b[i] for i in a)
    assert acc.test.n_only_a == sum(a[i] and not b[i] for i in a)
    assert acc.difference.mean == pytest.approx((sum(a.values()) - sum(b.values())) / 40)
    same = evaluate(run, task, against=run)
    assert same.comparison.metrics[0].difference.mean == 0
    assert not same.comparison.metrics[0].is_clear
    by_log = evaluate(run, task, against=theirs.log)
    assert by_log.comparison.metrics == result.comparison.metrics


def test_a_log_of_other_items_or_settings_is_refused(run, task, tmp_path):
    shots = evaluate(run, task, shots=1)
    with pytest.raises(UsageError, match="This evaluation has shots 1, and here it is 0"):
        evaluate(run, task, against=shots.log)
    before = evaluate(run, task)
    write_task(task, rows(seed=8))
    with pytest.raises(UsageError, match="of other items, or of another version of the task"):
        evaluate(run, task, against=before.log)
    (before.log / RESULT).unlink()
    with pytest.raises(UsageError, match="was not finished"):
        read_log(before.log)


def test_few_items_are_refused_before_the_model_is_loaded(task, tmp_path):
    write_task(task, rows(29))
    with pytest.raises(UsageError, match="There are 29 items, which are too few to compare"):
        evaluate(tmp_path / "no such run", task)


def test_items_that_do_not_fit_are_named_and_counted(run, task):
    found = rows()
    found[4]["question"] = found[20]["question"] = "the cat " * 200
    write_task(task, found)
    with pytest.raises(UsageError, match=r"quiz.jsonl:5: .* context of the model has 256. 2 of 40"):
        evaluate(run, task)
    result = evaluate(run, task, overlong="drop")
    assert (result.n_dropped, result.scores["acc"].n) == (2, 38)
    for row in found[:15]:
        row["question"] = "the cat " * 200
    write_task(task, found)
    with pytest.raises(UsageError, match="24 items that fit in the context, which are too few"):
        evaluate(run, task, overlong="drop")


def test_a_log_that_cannot_be_written_is_a_warning(run, task, caplog, monkeypatch):
    (run / "evaluation").mkdir(exist_ok=True)
    monkeypatch.setattr(
        "groundup.evaluation.tasks.log.write_json",
        lambda *_: (_ for _ in ()).throw(groundup.UserError("The disk is full.")),
    )
    result = evaluate(run, task, task_seed=5, shots=1)
    assert not result.is_saved
    assert result.scores["acc"].n == 40
    assert "The log of the items was not saved (The disk is full.)" in caplog.text


def test_the_loss_is_not_a_task(run, task):
    with pytest.raises(UsageError, match="Call evaluate_task"):
        groundup.evaluate(run, task=task)
    with pytest.raises(UsageError, match="There is no task"):
        groundup.evaluate_task(run)
    with pytest.raises(UsageError, match="shots is a setting of a task, and there is no task"):
        groundup.evaluate(run, shots=3)
    with pytest.raises(UsageError, match="Only one of them is expected"):
        groundup.evaluate_task(run, task=task, recitations=30)


def test_contaminated_items_are_scored_apart(run, task, tmp_path):
    found = rows()
    for row in found[:35]:
        row["question"] += " which one of these words is it that you would say here"
    write_task(task, found)
    lines = [json.dumps({"text": f"{r['question']} {r['choices'][0]}."}) + "\n" for r in found[:5]]
    (tmp_path / "texts.jsonl").write_text("".join([*lines, '{"text": "another text"}\n']))
    groundup.prepare(
        sources=[str(tmp_path / "texts.jsonl")], out=tmp_path / "data", audit=False, seed=2,
        validation_frac=0.01,
    )  # fmt: skip
    result = evaluate(run, task, contamination=True, data=tmp_path / "data", ngram=14)
    right = {row["index"]: row["correct"]["acc"] for row in log_rows(result)}
    flags = result.contamination.is_found
    assert 1 <= result.contamination.n_found <= 5
    assert not any(flags[5:])
    assert result.contamination.n_short == 5
    clean = [i for i in right if not flags[i]]
    assert result.clean_scores["acc"].n == len(clean)
    assert result.clean_scores["acc"].n_right == sum(right[i] for i in clean)
    with pytest.raises(UsageError, match="does not record which data"):
        evaluate(run, task, contamination=True)


def test_an_assistant_answers_with_its_template(tmp_path):
    folder, _ = write_assistant(tmp_path / "assistant")  # it says "hi", whatever it is asked
    found = [{"question": f"the cat {i}", "answer": "hi" if i % 3 else "log"} for i in range(36)]
    result = evaluate(folder, write_task(tmp_path / "chat.jsonl", found), max_new_tokens=4)
    assert result.is_chat
    assert (result.scores["acc"].n_right, result.scores["acc"].n) == (24, 36)
    assert {row["output"] for row in log_rows(result)} == {"hi"}
    assert log_rows(result)[0]["prompt"][-1]["role"] == "user"
    assert result.log.is_relative_to(folder)
    choices = [{**row, "choices": ["hi", "log"]} for row in found]
    result = evaluate(folder, write_task(tmp_path / "choices.jsonl", choices))
    assert result.scores["acc"].n_right == 24
