"""Retrieval at ten depths: a model that looks everything up, one that sees a window, and a text."""

import json
import random
from dataclasses import replace

import pytest
import torch
from reading_models import Copier
from untrained_run import untrained_run

import groundup
from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.evaluation.load import load
from groundup.evaluation.needle import N_DEPTHS, needle_recall, needle_text
from groundup.evaluation.reading import let_read
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.needles import FILLERS, NAMES, VALUES, needle_documents
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer

WORDS = WordTokenizer.from_text(" ".join([*NAMES, *VALUES, *FILLERS]))


def test_a_text_names_each_needle_once_before_it_asks():
    tokenizer = train_bpe((each.text for each in needle_documents(2**14)), 768)
    text = needle_text(tokenizer, 4096, 2, random.Random(5))
    assert 4090 <= len(text.ids) <= 4096
    assert sorted(each.depth for each in text.questions) == sorted([*range(N_DEPTHS)] * 2)
    first = min(each.start for each in text.questions)
    body = tokenizer.decode(text.ids[: first - 1]).splitlines()
    for each in text.questions:
        value = tokenizer.decode(text.ids[each.start : each.stop])
        name = tokenizer.decode(text.ids[each.start - 1 : each.start])
        assert (name in NAMES, value.strip() in VALUES) == (True, True)
        assert [line for line in body if line.split()[0] == name] == [name + value]
        place = each.start - 1 - each.n_back
        assert tokenizer.decode(text.ids[place : place + 2]) == name + value
        assert place / first == pytest.approx((each.depth + 0.5) / N_DEPTHS, abs=0.05)


def test_a_model_that_looks_everything_up_finds_all_and_a_window_only_what_is_near():
    every = needle_recall(Copier(WORDS.vocab_size, reach=10**6), WORDS, 1000, per_depth=10)
    assert all(each.recall.n_right == each.recall.n == 10 for each in every)
    reach = 500
    near = needle_recall(Copier(WORDS.vocab_size, reach=reach), WORDS, 1000, per_depth=10)
    assert [each.n_back for each in every] == [each.n_back for each in near]
    for each in near:
        if each.n_back < reach - 60:
            assert each.recall.n_right == 10
        elif each.n_back > reach + 60:
            assert each.recall.n_right <= 2  # guesses one of 64


def test_a_tokenizer_that_knows_no_value_is_refused():
    words = WordTokenizer.from_text(" ".join([*NAMES, *FILLERS]))
    with pytest.raises(UserError, match="encodes different values of this text in the same way"):
        needle_recall(Copier(words.vocab_size, reach=100), words, 1000, per_depth=2)


def test_it_reads_at_most_what_is_asked():
    copier = Copier(WORDS.vocab_size, reach=100)
    needle_recall(copier, WORDS, 700, per_depth=2)
    assert 690 <= copier.most_read <= 699


def test_the_command_and_its_record(tmp_path, capsys):
    run = untrained_run(tmp_path / "run")
    assert main(["evaluate", str(run), "--needle", "1024", "--device", "cpu"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "at the end of texts of 1,024 tokens" in shown
    assert "The model was trained with 24 tokens, and these texts are longer." in shown
    record = json.loads((run / "evaluation" / "needle-1024.json").read_text())
    assert len(record["depths"]) == N_DEPTHS
    assert (record["context_length"], record["chance"]) == (24, 1 / 64)
    with pytest.raises(UserError, match="needle is not given"):
        groundup.measure_needle(run, device="cpu")
    with pytest.raises(UserError, match=r"A text of at least \d+ tokens is expected") as error:
        groundup.measure_needle(run, needle=100, device="cpu")
    least = error.value.settings["needle"]
    assert isinstance(least, int)
    tokenizer = load(run).tokenizer
    for seed in range(200):  # every line that is drawn fits
        text = needle_text(tokenizer, least, 1, random.Random(seed))
        assert len(text.ids) <= least
        assert max(each.n_back for each in text.questions) <= least


def test_a_longer_text_does_not_change_the_windows():
    config = GPTConfig(vocab_size=9, context_length=64, d_model=16, n_layers=2, n_heads=2)
    model = GPT(replace(config, layers="w"))
    let_read(model, 1000, setting="needle")
    assert (model.config.context_length, model.config.window_width) == (1000, 64)
    model = GPT(config)
    let_read(model, 1000, setting="needle")
    assert model(torch.zeros(1, 1000, dtype=torch.long)).shape == (1, 1000, 9)
    assert model.rotary is not None
    assert not model.rotary.exact
    let_read(model, 70_000, setting="needle")
    assert model.rotary.exact, "float32 angles are wrong by 0.07 there"
