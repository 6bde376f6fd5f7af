"""A budget of time chooses what is left open, ends on time, and goes on after a kill."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import KilledError, kill_at, settings

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.results import read_results, record_result
from groundup.base.run import RunFolder
from groundup.model.config import GPTConfig
from groundup.model.count import parameters_by_part
from groundup.planning import budget, fitting, memory
from groundup.planning.budget import agree, choose, duration_s
from groundup.planning.config import PlanConfig
from groundup.planning.plan import plan
from groundup.pretraining import pretrain as room
from groundup.pretraining.pretrain import pretrain
from groundup.train import build
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data
from groundup.train.schedule import ClockSchedule


def blocks(config: PretrainConfig) -> int:
    parts = parameters_by_part(config.model)
    return parts["attention"] + parts["mlp"]


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "ten", "-5m", "10m!", "3s"])
def test_a_span_that_is_none_says_what_to_type(text):
    with pytest.raises(UserError, match="budget="):
        duration_s(text)


def test_more_time_feeds_a_larger_model(wishes, machine, monkeypatch):
    machine(2e11)
    text = open_data(wishes.data)
    # A large text: repeating nothing, it does not bound the model.
    monkeypatch.setattr(text.train, "n_tokens", 10**12)
    sizes = [blocks(choose(wishes, text, seconds)) for seconds in (30.0, 300.0, 7200.0, 2e5)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 500_000 < 3_000_000 < sizes[-1]


def test_a_small_text_feeds_a_small_model_only(wishes, machine):
    machine(2e11)
    assert blocks(choose(wishes, open_data(wishes.data), 2e5)) < 200_000


def test_a_text_that_is_read_often_gets_dropout_and_an_end(wishes, machine, monkeypatch):
    machine(2e11)
    text = open_data(wishes.data)
    found = []
    for n_tokens in (10**9, 10**6, 400_000, 200_000, 20_000):
        monkeypatch.setattr(text.train, "n_tokens", n_tokens)
        chosen = choose(wishes, text, 300.0)
        passes = chosen.steps * chosen.batch_size * chosen.model.context_length / n_tokens
        found.append((chosen.model.dropout, passes))
        assert passes < 41
    dropouts = [dropout for dropout, _ in found]
    assert dropouts == sorted(dropouts)
    assert (dropouts[0], dropouts[-1]) == (0.0, 0.3)
    assert budget.most_steps(chosen, 20_000) == pytest.approx(chosen.steps, abs=1)
    assert {0.1, 0.2} < set(dropouts)
    monkeypatch.setattr(text.train, "n_tokens", 300_000)
    assert choose(replace_settings(wishes, dropout=0.05), text, 300.0).model.dropout == 0.05


@pytest.mark.parametrize(
    "given", [
        {"layers": "dw"}, {"layers": "gw", "window": 200},
        {"layers": "wd", "window": 256}, {"segment": 256}, {"context_length": 16},
    ],
)  # fmt: skip
def test_what_is_chosen_suits_what_is_given(wishes, machine, given):
    machine(2e11)
    wishes = replace_settings(wishes, **given)
    chosen = choose(wishes, open_data(wishes.data), 600.0)
    assert chosen.model.look_back is chosen.model.rotates(0)
    assert chosen.model.rotary_base == 4 * chosen.model.context_length
    assert agree(chosen, wishes)


def test_what_is_set_by_hand_stays(wishes, machine):
    machine(2e11)
    model = GPTConfig(n_layers=3, d_model=48, n_heads=2)
    config = replace_settings(wishes, model=model, batch_size=5, weight_decay=0.7)
    chosen = choose(config, open_data(wishes.data), 600.0)
    assert (chosen.model.n_layers, chosen.model.d_model, chosen.model.n_heads) == (3, 48, 2)
    assert (chosen.batch_size, chosen.optimizer.weight_decay) == (5, 0.7)
    assert chosen.model.tie_embeddings is False  # what was left open is chosen
    assert agree(chosen, config)
    # A shape of which one number is the default is by hand all the same.
    four = dataclasses.replace(wishes, model=GPTConfig(n_layers=4, d_model=96, n_heads=3))
    model = choose(four, open_data(wishes.data), 600.0).model
    assert (model.n_layers, model.d_model, model.n_heads) == (4, 96, 3)
    assert not agree(chosen, dataclasses.replace(config, batch_size=6))
    assert not agree(chosen, dataclasses.replace(config, budget="11m"))


def test_what_was_typed_stays_though_it_be_the_default(wishes, machine):
    machine(2e11)
    config = PretrainConfig(data=wishes.data, budget="60s", batch_size=8)
    given = {"data", "budget", "batch_size", "n_layers", "context_length"}
    assert config == PretrainConfig(data=wishes.data, budget="60s")
    chosen = choose(config, open_data(wishes.data), 60.0, given)
    assert chosen.batch_size == 8
    assert chosen.model.context_length == config.model.context_length
    assert (chosen.model.n_layers, chosen.model.d_model) == (4, GPTConfig().d_model)
    assert agree(chosen, config, given)
    assert not agree(choose(wishes, open_data(wishes.data), 60.0), config, given)
    assert agree(chosen, config, given | {"compile"})


def test_on_a_gpu_the_batch_grows_while_that_is_nearly_free(wishes, machine, monkeypatch):
    wishes = replace_settings(wishes, model=GPTConfig(n_layers=3, d_model=48, n_heads=2))
    text = open_data(wishes.data)
    machine(1e14)
    monkeypatch.setattr(budget, "_is_gpu", lambda config: False)
    of_few_words = choose(wishes, text, 60.0)
    monkeypatch.setattr(budget, "_is_gpu", lambda config: True)
    # More tokens per step would only be fewer steps for as many passes over the text.
    assert choose(wishes, text, 60.0) == of_few_words
    monkeypatch.setattr(text.train, "n_tokens", 10**9)
    large = choose(wishes, text, 60.0)
    assert 2**14 < large.batch_size * large.model.context_length <= 2**15
    assert 0.02 * large.steps == pytest.approx(60.0, rel=0.05)
    assert choose(replace_settings(wishes, batch_size=5), text, 60.0).batch_size == 5
    machine(1e11)  # where the FLOPs take the time, a larger batch costs what it computes
    assert choose(wishes, text, 60.0).batch_size < 2**13 / large.model.context_length


def test_heads_look_back_unless_what_is_set_by_hand_forbids_it(wishes, machine):
    machine(2e11)
    text = open_data(wishes.data)
    assert choose(wishes, text, 60.0).model.look_back
    learned = dataclasses.replace(wishes, model=GPTConfig(positions="learned"))
    assert not choose(learned, text, 60.0).model.look_back


def test_a_model_set_by_hand_that_is_too_slow_is_refused(wishes, machine):
    machine(1e8)
    slow = dataclasses.replace(wishes, model=GPTConfig(n_layers=8, d_model=384, n_heads=6))
    with pytest.raises(UserError, match=r"A step of this model takes .*budget='\d+m'"):
        choose(slow, open_data(wishes.data), 20.0)


@pytest.mark.parametrize(
    "typed", [{"qkv_bias": False}, {"n_kv_heads": 3}, {"positions": "learned"}]
)
def test_the_choice_goes_with_what_was_typed(wishes, machine, typed):
    machine(2e11)
    config = PretrainConfig(data=wishes.data, budget="10m", model=GPTConfig(**typed))
    chosen = choose(config, open_data(wishes.data), 600.0, set(typed))
    assert {name: getattr(chosen.model, name) for name in typed} == typed
    assert agree(chosen, config, set(typed))


def test_parts_of_a_batch_that_were_typed_stay(wishes, machine, monkeypatch):
    machine(2e11)
    text = open_data(wishes.data)
    monkeypatch.setattr(text.train, "n_tokens", 10**7)
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)
    needed = sum(memory.count_memory(choose(wishes, text, 600.0)).values())
    monkeypatch.setattr(budget, "usable_memory_bytes", lambda device: needed)
    assert choose(wishes, text, 600.0).hardware.grad_accumulation_steps > 1
    whole, given = PretrainConfig(data=wishes.data, budget="10m"), {"grad_accumulation_steps"}
    monkeypatch.setattr(fitting, "usable_memory_bytes", lambda device: needed)
    chosen = choose(whole, text, 600.0, given)
    assert chosen.hardware.grad_accumulation_steps == 1
    assert agree(chosen, whole, given)
    monkeypatch.setattr(fitting, "usable_memory_bytes", lambda device: 1000)
    with pytest.raises(UserError, match="of memory"):
        choose(whole, text, 600.0, given)


def test_a_busy_machine_tries_few_shapes(wishes, machine, monkeypatch):
    machine(2e11)
    text = open_data(wishes.data)
    monkeypatch.setattr(text.train, "n_tokens", 10**12)
    tried, attempt = [], budget._try
    monkeypatch.setattr(budget, "_try", lambda *a, **k: tried.append(a[3]) or attempt(*a, **k))
    choose(wishes, text, 60.0)
    assert len(tried) > 1
    tried.clear()
    monkeypatch.setattr(budget, "_SEARCH_FRAC", 0.0)
    choose(wishes, text, 60.0)
    assert len(tried) == 1


def test_what_goes_ill_with_a_budget_is_said(wishes, machine, caplog):
    machine(2e11)
    choose(dataclasses.replace(wishes, steps=20), open_data(wishes.data), 60.0)
    assert "The budget of 60 s sets the number of steps, not steps=20" in caplog.text
    assert "ompiling" not in caplog.text
    choose(replace_settings(wishes, compile=True), open_data(wishes.data), 60.0)
    assert "Compiling takes half a minute or more of the 60 s" in caplog.text


def test_looks_and_checkpoints_stay_cheap(wishes, machine):
    machine(2e11)
    chosen = choose(wishes, open_data(wishes.data), 600.0)
    assert chosen.validation.validate_every is not None
    assert 8 <= chosen.steps / chosen.validation.validate_every <= 9
    assert chosen.validation.validate_every == chosen.checkpoints.checkpoint_every


def test_the_rate_falls_by_the_clock_to_zero():
    schedule = ClockSchedule(seconds=10.0, warmup_steps=2)
    assert schedule.factor(1, 0.0) == 0.5
    assert schedule.factor(7, 9.0) == pytest.approx(0.1)
    assert schedule.factor(9, 11.0) > 0
    # A slower machine makes fewer steps, not a later end.
    assert schedule.expected_steps(5, 5.0) == 10
    assert schedule.expected_steps(5, 9.9) == 5


def small(data, **changes):
    open_ = {"steps": 600, "sample_every": 200, "checkpoint_every": 5, "validate_every": 100}
    return settings(data, **{"budget": "60s", "batch_size": 8, **open_, **changes})


def assert_rate_fell_to_zero(run):
    rates = [row["learning_rate"] for row in RunFolder(run).read_metrics()]
    assert rates[-1] < 0.05 * max(rates)


def test_it_ends_on_time(data, clock):
    began_at = clock.now_s
    # Time passes between steps, too: what decides on the end must not be asked twice.
    config = small(data, curves=False, batch_size=3)  # larger batches learn it by heart before
    result = pretrain(config, lambda step: clock.advance(0.2))
    # The time after the last step is estimated with some reserve.
    assert 50.0 < clock.now_s - began_at < 60.0
    assert_rate_fell_to_zero(result.run)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_rising_validation_loss_ends_it_early(data, clock, monkeypatch, is_killed):
    done = 0

    def validate(self, n=None):
        return {1: 4.0, 20: 3.0, 40: 2.9, 60: 2.95}.get(done + 1, 2.8)

    def step(step):
        nonlocal done
        done = step.step
        clock.advance(0.3)
        if is_killed:
            kill_at(62)(step)

    monkeypatch.setattr(build.Setup, "validate", validate)
    config = small(data, curves=False, validate_every=20)
    if is_killed:
        with pytest.raises(KilledError):
            pretrain(config, step)
        is_killed = False
    result = pretrain(config, step)
    assert result.early_end_step == 60
    assert 70 <= result.steps <= 75  # a fifth more
    assert "The validation loss had risen at step 60" in result.early_end
    assert (result.best_step, result.validation_loss_nats) == (result.steps, 2.8)
    assert_rate_fell_to_zero(result.run)


@pytest.mark.slow
@pytest.mark.alone
def test_it_ends_on_time_by_the_real_clock(data, monkeypatch):
    # Validation takes its time, but no rising loss ends the run early.
    validate = build.Setup.validate
    monkeypatch.setattr(build.Setup, "validate", lambda *options: 0.0 * validate(*options) + 3.0)
    monkeypatch.setattr(budget, "_MOST_PASSES", 1e6)
    pretrain(small(data, budget=None, steps=3))  # imports, once
    began_at, out = time.monotonic(), data.parent / "on-time"
    result = pretrain(small(data, budget="20s", out=out), lambda step: time.sleep(0.02))
    assert 15.0 < time.monotonic() - began_at < 20.6
    assert_rate_fell_to_zero(result.run)


def test_killed_it_goes_on_with_what_was_chosen(data, monkeypatch, clock):
    config = small(data)

    def step_or_die(step):
        clock.advance(0.5)
        kill_at(30)(step)

    with pytest.raises(KilledError):
        pretrain(config, step_or_die)

    def never(*arguments):
        raise AssertionError("chosen a second time")

    monkeypatch.setattr(room, "choose", never)
    result = pretrain(config, lambda step: clock.advance(0.5))
    assert result.run == config.out
    assert result.resumed_from_step >= 5
    assert result.elapsed_s < 60.0  # the time before the kill counts


def test_compiling_is_not_taken_from_the_steps(data, monkeypatch, clock):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(build.Setup, "compile_now", lambda self: clock.advance(15.0))
    began_at = clock.now_s
    config = small(data, curves=False, compile=True)
    result = pretrain(config, lambda step: clock.advance(0.2))
    assert clock.now_s - began_at < 60.0  # 70 and more if it were not counted
    assert result.elapsed_s < 45.0
    assert len(RunFolder(result.run).read_metrics()) > 20
    assert_rate_fell_to_zero(result.run)


def test_plan_reckons_with_the_time_not_with_steps(data, machine, monkeypatch):
    machine(2e11)
    monkeypatch.setattr("groundup.planning.plan.probe", budget.probe)
    monkeypatch.setattr(budget, "_MOST_PASSES", 1e9)
    shown = plan(PlanConfig(data=data, budget="10m"))
    assert shown.steps * shown.step_s == pytest.approx(600.0, rel=0.1)
    typed = plan(PlanConfig(data=data, budget="10m", steps=40))
    assert typed.steps == pytest.approx(shown.steps, rel=0.02)
    assert typed.last_loss_nats == pytest.approx(shown.last_loss_nats, rel=0.01)
    with pytest.raises(UserError, match="Set one of them"):
        PlanConfig(data=data, budget="10m", train_time="3m")


def test_plan_shows_the_choice(data, machine, monkeypatch):
    machine(2e11)
    monkeypatch.setattr("groundup.planning.plan.probe", budget.probe)
    monkeypatch.setattr(budget, "_MOST_PASSES", 1e9)
    shown = plan(replace_settings(PlanConfig(), data=data, budget="10m", probe_s=0.2, threads=1))
    assert shown.n_parameters > 0
    assert shown.steps > 600
    assert shown.total_s == 600.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "batch_size"),
    [({"n_layers": 2, "d_model": 128}, 64), ({"n_layers": 4, "d_model": 256}, 16)],
)
def test_memory_comes_out_as_planned(data, shape, batch_size):
    """In a process of its own, for what others have left there would count, too."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from small_runs import settings; from groundup.model.config import GPTConfig;"
        "from groundup.planning.memory import count_memory;"
        "from groundup.pretraining.pretrain import *;"
        "from groundup.train.build import *;"
        "from groundup.train.data import open_data, with_vocabulary;"
        f"model = GPTConfig(n_heads=4, context_length=128, activation='relu2', **{shape});"
        f"config = settings(Path(sys.argv[2]), model=model, batch_size={batch_size});"
        "config = with_vocabulary(config, open_data(config.data));"
        "planned = sum(count_memory(config).values());"
        "print(pretrain(config).peak_memory_bytes / planned)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    # The aim is 10 %; what libraries hold differs from one system to the next.
    assert float(done.stdout.split()[-1]) == pytest.approx(1.0, abs=0.2)


def test_readme_holds_the_plan_against_the_run(data):
    config = settings(data, steps=30)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    shown = plan(PlanConfig(**values, probe_s=0.3))
    record_result(data, "plan", shown)
    run = pretrain(config).run
    page = (run / "README.md").read_text("utf-8")
    assert "| time |" in page
    assert "| memory |" in page
    assert read_results(data)["plan"]["steps"] == 30
    other = pretrain(dataclasses.replace(config, batch_size=3)).run
    assert "These settings were not planned." in (other / "README.md").read_text("utf-8")
