"""The adapter gives lm-evaluation-harness the results of its `hf` model on the same weights."""

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from exported import bpe, random_model, write_run
from peers import peer

import groundup
from groundup.evaluation.export import export
from groundup.weights.config import ExportConfig

WORDS = "the cat sat on mat and dog log was long It hi hit".split()  # noqa: SIM905
TASKS: dict[str, dict[str, object]] = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "num_fewshot": 2,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}],
    },
    "no_context": {
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "target_delimiter": "",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    },
    "perplexity": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{long}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
    },
    "generation": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n", "zz"], "max_gen_toks": 9},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its export, and local tasks."""
    path = tmp_path_factory.mktemp("lm_eval")
    tokenizer = bpe()
    write_run(path / "run", random_model(tokenizer.vocab_size), tokenizer)
    export(ExportConfig(run=path / "run", out=path / "hf"))
    draw = random.Random(3)

    def words(n: int) -> str:
        return " ".join(draw.choices(WORDS, k=n))

    rows = [
        {
            "question": words(draw.randint(2, 6)),
            "choices": [words(draw.randint(1, 3)) for _ in range(4)],
            "answer": draw.randrange(4),
            "long": words(draw.randint(1, 120)),
        }
        for _ in range(12)
    ]
    data = path / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, about in TASKS.items():
        (path / f"{name}.json").write_text(json.dumps(about))
    return path


def task(folder: Path, name: str) -> dict:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "items.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        **TASKS[name],
    }


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, dict]:
    """What the `hf` model and ours give for all tasks."""
    lm_eval = peer("lm_eval")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        models = {
            "hf": "hf",
            "shared": groundup.LMEval(folder / "run", device="cpu"),
            "not shared": groundup.LMEval(folder / "run", device="cpu", prefix_caching=False),
        }
        arguments = {"pretrained": str(folder / "hf"), "dtype": "float32"}
        return {
            name: lm_eval.simple_evaluate(
                model=model,
                model_args=arguments if name == "hf" else None,
                tasks=[task(folder, each) for each in TASKS],
                task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
                batch_size=1,
                bootstrap_iters=0,
                device="cpu",
            )
            for name, model in models.items()
        }


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("way", ["shared", "not shared"])
def test_results_are_those_of_hf(results: dict[str, dict], name: str, way: str) -> None:
    theirs, ours = results["hf"], results[way]
    for key, value in theirs["results"][name].items():
        if isinstance(value, float):
            assert ours["results"][name][key] == pytest.approx(value, rel=1e-5), key
    for a, b in zip(ours["samples"][name], theirs["samples"][name], strict=True):
        assert a["arguments"] == b["arguments"]
        for (left,), (right,) in zip(a["resps"], b["resps"], strict=True):
            if name == "generation":
                assert left == right
            elif name == "perplexity":
                assert left == pytest.approx(right, abs=1e-3)  # of up to 400 tokens
            else:
                assert float(left[0]) == pytest.approx(float(right[0]), abs=1e-4)
                assert left[1] == right[1]


@pytest.mark.parity
@pytest.mark.slow
def test_conversations_are_those_of_hf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_eval = peer("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    tokenizer = bpe()
    model = random_model(tokenizer.vocab_size, context_length=512)
    run = write_run(folder / "assistant", model, tokenizer)
    (run / "assistant.json").write_text("{}")
    export(ExportConfig(run=run, out=folder / "hf-assistant"))
    ours, theirs = (
        lm_eval.simple_evaluate(
            model=model,
            model_args=arguments,
            tasks=[task(folder, each) for each in ("choices", "generation")],
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
            apply_chat_template=True,
            batch_size=1,
            bootstrap_iters=0,
            device="cpu",
        )
        for model, arguments in (
            (groundup.LMEval(run, device="cpu"), None),
            ("hf", {"pretrained": str(folder / "hf-assistant"), "dtype": "float32"}),
        )
    )
    for name in ("choices", "generation"):
        for a, b in zip(ours["samples"][name], theirs["samples"][name], strict=True):
            assert a["arguments"] == b["arguments"]
            if name == "generation":
                assert a["resps"] == b["resps"]
                continue
            left, right = ([float(each[0][0]) for each in row["resps"]] for row in (a, b))
            assert left == pytest.approx(right, abs=1e-4)


def test_without_the_harness_the_install_command_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(groundup.UserError, match=r"-c constraints.txt -e '.\[lm-eval\]'"):
        groundup.LMEval(folder / "run")


def test_a_setting_of_a_task_that_is_not_known_is_named(folder: Path) -> None:
    peer("lm_eval")
    model = groundup.LMEval(folder / "run", device="cpu")
    request = SimpleNamespace(args=("the cat", {"num_beams": 4, "temperature": 1.0}))
    with pytest.raises(groundup.UserError, match="'num_beams' of a task is not known"):
        model.generate_until([request])
