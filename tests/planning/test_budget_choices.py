"""What a budget chooses for large texts, little memory and mixtures."""

import dataclasses

import pytest
from small_runs import TEXT, make_data

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.model.config import GPTConfig
from groundup.planning import budget, fitting, memory
from groundup.planning.budget import SHAPES, agree, choose, shape_settings
from groundup.planning.config import PlanConfig
from groundup.planning.plan import plan
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data, open_texts


def test_a_large_text_does_not_make_a_given_model_too_slow(wishes, machine, monkeypatch):
    machine(2e10)
    text = open_data(wishes.data)
    monkeypatch.setattr(text.train, "n_tokens", 10**10)
    model = GPTConfig(n_layers=4, d_model=256, n_heads=4)
    chosen = choose(dataclasses.replace(wishes, model=model), text, 20.0)
    assert chosen.steps > 50
    # The batch suits the targets of 20 s, which are fewer than those of a pass over the text.
    assert chosen.batch_size * chosen.model.context_length < 2048


def test_an_unfinished_run_with_other_settings_is_another_one(wishes, machine):
    machine(2e11)
    stored = choose(wishes, open_data(wishes.data), 600.0)
    assert agree(stored, wishes)
    # It has chosen to look back, which these settings do not allow.
    for settings in ({"positions": "learned"}, {"qk_norm": False}, {"qkv_bias": False}):
        assert not agree(stored, replace_settings(wishes, **settings), frozenset(settings))


@pytest.fixture
def usable(monkeypatch):
    """A machine on which this process can use so many bytes, and uses none yet."""
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)

    def of(n_bytes: float) -> None:
        for module in (budget, fitting):
            monkeypatch.setattr(module, "usable_memory_bytes", lambda device: n_bytes)

    return of


def test_the_search_leaves_sizes_that_do_not_fit(wishes, machine, monkeypatch, usable):
    machine(2e11)
    text = open_data(wishes.data)
    monkeypatch.setattr(text.train, "n_tokens", 10**9)
    wishes = replace_settings(wishes, batch_size=1)
    smallest, second = (
        fitting.total_bytes(choose(replace_settings(wishes, **shape_settings(shape)), text, 600.0))
        for shape in SHAPES[:2]
    )
    # Of the sizes, the search starts at the fourth.
    for n_bytes in (1.01 * second / 0.8, 1.01 * smallest / 0.8, 1.05 * smallest):
        usable(n_bytes)
        chosen = choose(wishes, text, 600.0)
        assert chosen.steps > 1000  # measured; not the default
        found = (chosen.model.n_layers, chosen.model.d_model)
        assert found == SHAPES[n_bytes > second / 0.8]
    usable(0.9 * smallest)
    with pytest.raises(UserError, match="of memory"):
        choose(wishes, text, 600.0)


def test_a_given_model_that_just_fits_is_measured(wishes, machine, usable):
    machine(2e11)
    text = open_data(wishes.data)
    wishes = replace_settings(wishes, n_layers=2, d_model=64, n_heads=2, batch_size=1)
    needed = fitting.total_bytes(choose(wishes, text, 600.0))
    usable(1.1 * needed)
    chosen = choose(wishes, text, 600.0)
    assert chosen.validation.validate_every == max(1, chosen.steps // 8)


@pytest.mark.parametrize("weight", [1, 3])
def test_the_text_of_a_mixture_that_is_read_most_often_decides(data, machine, monkeypatch, weight):
    machine(2e11)
    other = make_data(data.parent / "other")
    config = PretrainConfig(mix=(f"{data}=1", f"{other}={weight}"), budget="10m")
    texts = open_texts(config.texts)
    monkeypatch.setattr(texts.train, "n_tokens", 10**9)
    monkeypatch.setattr(texts.others[0].train, "n_tokens", 20_000)
    chosen = choose(config, texts, 600.0)
    n_read = chosen.steps * chosen.batch_size * chosen.model.context_length * weight / (1 + weight)
    assert n_read / 20_000 == pytest.approx(40, rel=0.05)
    assert chosen.model.dropout == 0.2


def test_plan_names_the_text_that_ends_a_budget(data):
    small = make_data(data.parent / "small", TEXT[: len(TEXT) // 2])
    mix = (f"{data}=1", f"{small}=1")
    shown = plan(replace_settings(PlanConfig(), mix=mix, budget="1h", probe_s=0.2, threads=1))
    assert shown.passes[str(small)] == pytest.approx(40, rel=0.1)
    assert f"1h is more than {small}, which is read most often, supports." in shown.warnings[0]


@pytest.mark.parametrize(("V", "rate"), [(65, 0.03), (512, 0.06), (2048, 0.12), (50257, 0.24)])
def test_rows_that_are_seen_rarely_get_a_higher_rate(wishes, machine, monkeypatch, V, rate):
    machine(2e11)
    monkeypatch.setattr(
        "groundup.planning.budget.with_vocabulary",
        lambda config, data: replace_settings(config, vocab_size=V),
    )

    def chosen(**given):
        config = replace_settings(wishes, **given)
        return choose(config, open_data(wishes.data), 30.0).optimizer

    assert chosen().embedding_learning_rate == pytest.approx(rate)
    assert chosen().head_learning_rate == 0.03
    given = chosen(embedding_learning_rate=0.01)
    assert (given.embedding_learning_rate, given.head_learning_rate) == (0.01, None)
    assert chosen(ngram=2).embedding_learning_rate == 0.03
    config = replace_settings(wishes, tie_embeddings=True)
    tied = choose(config, open_data(wishes.data), 30.0, frozenset({"tie_embeddings"}))
    assert tied.optimizer.embedding_learning_rate == 0.03
