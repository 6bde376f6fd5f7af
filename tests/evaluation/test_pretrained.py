"""Import takes what people have, keeps what it says, and opens what it made."""

import json
import logging
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import foreign_tokenizer, write_foreign

from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.evaluation.export import export
from groundup.evaluation.load import load
from groundup.evaluation.pretrained import import_pretrained
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.generation.generate import generate
from groundup.inspection.config import ExplainConfig
from groundup.inspection.explain import explain
from groundup.tokenizer.files import load_tokenizer
from groundup.weights.checkpoint_format import load_tensors, save_tensors
from groundup.weights.config import ExportConfig, ImportConfig


def imported(folder: Path) -> Path:
    return import_pretrained(ImportConfig(source=folder, out=folder.with_name("run"))).run


# More rows than tokens


@pytest.mark.parametrize("n_spare", [1, 120])
def test_rows_beyond_the_tokenizer_are_never_generated(tmp_path: Path, n_spare: int) -> None:
    tokenizer = foreign_tokenizer()
    V = tokenizer.vocab_size + n_spare
    folder = write_foreign(tmp_path / "hf", rows=V, always=V - 1)
    run = imported(folder)
    language_model = load(run)
    assert language_model.model.config.vocab_size == V
    assert isinstance(language_model.generate("the cat", 5, temperature=0), str)
    for settings in ({"temperature": 0}, {"temperature": 9.0}, {"top_k": 3}, {"top_p": 0.5}):
        ids = generate(language_model.model, [1, 2], 20, seed=1, **settings)  # type: ignore[arg-type]
        assert max(ids) < tokenizer.vocab_size, settings
    assert language_model.loss("the cat sat") > 0
    shown = explain(ExplainConfig(run=run, text="the cat sat"))
    assert len(shown.next_tokens) > 3
    result = import_pretrained(ImportConfig(source=folder, out=tmp_path / "again"))
    assert result.n_unused_rows == n_spare


def test_a_model_with_spare_rows_can_be_fine_tuned_as_a_classifier(tmp_path: Path) -> None:
    run = imported(write_foreign(tmp_path / "hf", rows=384))
    labels = tmp_path / "labels.tsv"
    labels.write_text("".join(f"{k}\tthe {k} sat {i}\n" for i in range(5) for k in ("cat", "dog")))
    result = classify(ClassifyConfig(run=run, labels=labels, split="random", threads=1))
    assert result.model is not None
    with pytest.raises(UserError, match="This is a classifier"):
        export(ExportConfig(run=result.folder))
    assert result.warnings == []


def test_fewer_rows_than_tokens_are_refused_at_import_and_nothing_is_left(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "hf", rows=200)
    n_tokens = foreign_tokenizer().vocab_size
    with pytest.raises(UserError, match=f"tokenizer has {n_tokens} tokens.* embeddings for 200"):
        import_pretrained(ImportConfig(source=folder, out=tmp_path / "runs" / "run"))
    assert not list(tmp_path.glob("runs/*"))


# Whatever cannot be used is refused by import, which leaves nothing


def nan_weights(folder: Path) -> None:
    tensors = load_tensors(folder / "model.safetensors")
    tensors["transformer.wte.weight"][:] = float("nan")
    save_tensors(tensors, folder / "model.safetensors")


def other_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}, "added_tokens": []}')


def wrong_end(folder: Path) -> None:
    about = json.loads((folder / "config.json").read_text()) | {"eos_token_id": "</s>"}
    (folder / "config.json").write_text(json.dumps(about))


def wrong_generation(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, true]}')


def no_object(folder: Path) -> None:
    (folder / "generation_config.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (nan_weights, "NaN or infinite"),
        (other_tokenizer, "tokenizer.json"),
        (wrong_end, "eos_token_id is '</s>'"),
        (wrong_generation, r"eos_token_id is \[1, True\]"),
        (no_object, "not a JSON object"),
    ],
)
def test_what_cannot_be_opened_is_not_imported(tmp_path: Path, damage: Any, said: str) -> None:
    folder = write_foreign(tmp_path / "hf")
    damage(folder)
    with pytest.raises(UserError, match=said):
        import_pretrained(ImportConfig(source=folder, out=tmp_path / "runs" / "run"))
    assert not list(tmp_path.glob("runs/*"))


# The forms in which tokenizers are published


@pytest.mark.parametrize("form", ["tokenizer.json", "merges.txt", "tiktoken"])
def test_every_form_of_a_tokenizer_is_taken(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_foreign(tmp_path / "hf", form=form)
    assert main(["import", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert "!" not in capsys.readouterr().out
    tokenizer = load(tmp_path / "run").tokenizer
    ours = foreign_tokenizer()
    for text in ("the cat sat", "naïve café 12345, 东京!\n\n  two", ""):
        assert tokenizer.encode(text) == ours.encode(text)
    assert tokenizer.special_tokens == ours.special_tokens
    assert main(["generate", str(tmp_path / "run"), "--prompt", "the cat"]) == 0
    assert export(ExportConfig(run=tmp_path / "run")).has_tokenizer


def test_without_a_tokenizer_the_weights_are_imported_and_the_hints_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_foreign(tmp_path / "hf", form="none")
    run = tmp_path / "run"
    assert main(["import", str(folder), "--out", str(run)]) == 0
    screen = capsys.readouterr().out
    assert "has no tokenizer that can be read" in " ".join(screen.split())
    assert main(screen.rpartition("next: groundup ")[2].split()) == 0, "the printed command works"
    capsys.readouterr()
    assert main(["generate", str(run), "--prompt", "a"]) == 1
    said = capsys.readouterr().err
    assert "There is no tokenizer for this model" in said
    assert "train-tokenizer" not in said


# The ids that end a text


def test_the_ends_of_both_files_are_kept_used_and_written_again(tmp_path: Path) -> None:
    tokenizer = foreign_tokenizer(("<|endoftext|>", "<|im_end|>", "<|eot|>", "<s>"))
    end, im_end, eot, start = tokenizer.special_tokens.values()
    config = {"bos_token_id": start, "eos_token_id": im_end, "pad_token_id": end}
    generation = {
        "bos_token_id": start,
        "eos_token_id": [im_end, eot],
        "pad_token_id": end,
        "temperature": 0.6,
        "do_sample": True,
        "transformers_version": "4.51.0",
    }
    folder = write_foreign(
        tmp_path / "hf", tokenizer=tokenizer, config=config, generation=generation, always=im_end
    )
    about = {"eos_token": "<|im_end|>", "chat_template": "Hi"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    run = imported(folder)
    language_model = load(run)
    assert language_model.stop_ids == (im_end, eot, end)
    assert language_model.start_ids == [start]
    assert language_model.generate("the cat", 5) == ""
    out = export(ExportConfig(run=run)).folder
    about = json.loads((out / "config.json").read_text())
    assert {name: about[name] for name in config} == config
    del generation["transformers_version"]
    assert json.loads((out / "generation_config.json").read_text()) == generation
    for name in ("tokenizer_config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    again = load(import_pretrained(ImportConfig(source=out, out=tmp_path / "second")).run)
    assert again.stop_ids == language_model.stop_ids


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        ({"eos_token_id": 1}, None, [1]),
        ({"eos_token_id": [1, 2]}, None, [1, 2]),
        ({"eos_token_id": 1}, {"eos_token_id": [2, 1]}, [2, 1]),
        ({}, {"eos_token_id": 2}, [2]),
        ({"eos_token_id": None}, {"eos_token_id": None}, []),
        ({"eos_token_id": 99_999, "pad_token_id": -1}, None, []),
        ({}, {}, []),
    ],
)
def test_ends_may_be_one_several_or_none(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None, ends: list[int]
) -> None:
    run = imported(write_foreign(tmp_path / "hf", config=config, generation=generation))
    end_of_text = foreign_tokenizer().special_tokens["<|endoftext|>"]
    assert list(load(run).stop_ids) == [*ends, end_of_text]


def test_an_end_outside_the_vocabulary_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        imported(write_foreign(tmp_path / "hf", config={"eos_token_id": 50_256}))
    assert "eos_token_id is 50256, and the vocabulary has 265 tokens" in caplog.text


def test_generate_without_a_prompt_prints_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = foreign_tokenizer().special_tokens["<|endoftext|>"]
    run = imported(write_foreign(tmp_path / "hf", always=end))
    assert main(["generate", str(run), "--samples", "1", "--max-new-tokens", "4"]) == 0
    screen = capsys.readouterr().out
    assert screen.count("(no further text)") == 2
    assert "The prompt is empty" in screen


@pytest.mark.parity
def test_transformers_writes_these_files_and_stops_where_we_do(tmp_path: Path) -> None:
    """The model always says <|im_end|>, which is its end; generated there, then here."""
    transformers = pytest.importorskip("transformers")
    tokenizer = foreign_tokenizer(("<|endoftext|>", "<|im_end|>"))
    end = tokenizer.special_tokens["<|im_end|>"]
    folder = write_foreign(
        tmp_path / "hf", tokenizer=tokenizer, config={"eos_token_id": end}, always=end
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "saved")
    (folder / "tokenizer.json").rename(tmp_path / "saved" / "tokenizer.json")
    run = imported(tmp_path / "saved")
    assert load(run).generate("the cat", 9) == ""
    out = export(ExportConfig(run=run)).folder
    there = transformers.AutoModelForCausalLM.from_pretrained(out)
    ids = torch.tensor([tokenizer.encode("the cat")])
    assert there.generate(ids, max_new_tokens=9)[0, ids.shape[1] :].tolist() == [end]
    assert load_tokenizer(out).fingerprint == tokenizer.fingerprint


# What the commands print next


def test_the_commands_printed_for_an_imported_model_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside the data of another project, and with a space in the name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "corpus").mkdir(parents=True)
    folder = write_foreign(tmp_path / "hf", rows=300)
    words = ["import", str(folder), "--out", "my run"]
    typed: list[str] = []
    for _ in range(3):
        assert main(words) == 0, typed
        typed.append(words[0])
        words = shlex.split(capsys.readouterr().out.rpartition("next: groundup ")[2])
    assert typed == ["import", "generate", "export"]
    assert main(words) == 0
    for job, setting in (("classify", "labels"), ("instruct", "records")):
        capsys.readouterr()
        assert main([job, "my run"]) == 1
        said = capsys.readouterr().err
        assert "This model was imported, so the run has no documents" in said
        assert f"(`{setting}`)" in said


def test_a_config_far_larger_than_the_weights_takes_no_memory(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "hf", config={"n_embd": 10**7, "n_layer": 10**6})
    with pytest.raises(UserError, match="parameters, and the weights have"):
        import_pretrained(ImportConfig(source=folder, out=tmp_path / "run"))


def test_weights_are_imported_alone_where_the_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "hf")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Unheard"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"normalizer\.type is .Unheard.*Try: tokenizer=False"):
        import_pretrained(ImportConfig(source=folder, out=tmp_path / "run"))
    result = import_pretrained(ImportConfig(source=folder, out=tmp_path / "run", tokenizer=False))
    assert not result.has_tokenizer
    assert not (result.run / "tokenizer").exists()
