"""docs/long-context.md: its arithmetic is done again, its code and commands run."""

import random
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from small_runs import WORDS, make_documents, settings

from groundup.cli.options import options_of
from groundup.cli.verbs import VERBS
from groundup.evaluation import needle
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters, flops_per_token
from groundup.model.rotary import rotary_frequencies
from groundup.pretraining.pretrain import pretrain
from groundup.text.needles import FILLERS, NAMES, VALUES

PAGE = (Path(__file__).parents[2] / "docs" / "long-context.md").read_text("utf-8")
T = 1_500_000
SHAPES = {
    "2.2 M": GPTConfig(d_model=192, n_layers=4, n_heads=3),
    "11 M": GPTConfig(d_model=320, n_layers=8, n_heads=5),
    "124 M": GPTConfig.gpt2("124M"),
}


def windowed(config: GPTConfig) -> GPTConfig:
    return replace(config, sliding_window=1024)


@pytest.mark.parametrize("name", SHAPES)
def test_the_flops_of_a_step(name):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name}"))
    full, window = (float(x) for x in re.findall(r"([\d.]+e\d+) FLOPs", row))
    factor = float(row.split("|")[-2])
    config = SHAPES[name]
    assert full == pytest.approx(T * flops_per_token(config, T), rel=0.05)
    assert window == pytest.approx(T * flops_per_token(windowed(config), T), rel=0.05)
    found = flops_per_token(config, T) / flops_per_token(windowed(config), T)
    assert factor == pytest.approx(found, rel=0.01)
    said = float(name.split()[0]) * 1e6
    assert said == pytest.approx(count_parameters(config), rel=0.06)
    C, L = config.d_model, config.n_layers
    pairs_of_a_layer = (flops_per_token(config, T) - flops_per_token(config, 1)) * T / L
    assert pytest.approx(pairs_of_a_layer, rel=0.001) == 6 * C * T**2


def test_times_and_memory():
    (days, minutes) = (
        float(x) for x in re.findall(r"take (\d+) days a step, and\nwindows (\d+)", PAGE)[0]
    )
    rate = 1e11
    config = SHAPES["11 M"]
    assert days == pytest.approx(T * flops_per_token(config, T) / rate / 86_400, rel=0.05)
    found = T * flops_per_token(windowed(config), T) / rate / 60
    assert minutes == pytest.approx(found, rel=0.05)
    assert f"is {4 * T**2 / 1e12:.0f} TB" in PAGE
    for L, C in ((4, 192), (8, 320), (12, 768)):
        full, window = (2 * L * n * C * 4 for n in (T, 1024))
        assert f"| {L} layers of {C} | {full / 1e9:.1f} GB | {window / 1e6:.1f} MB |" in PAGE


def test_the_error_of_float32_angles():
    (said,) = (float(x) for x in re.findall(r"wrong by up to ([\d.]+)\s+at\s+T = 1,500,000", PAGE))
    frequencies, _ = rotary_frequencies(64, 10_000.0)
    exact = 10_000.0 ** -(torch.arange(32, dtype=torch.float64) / 32)
    positions = torch.arange(T - 10_000, T)[:, None]
    rounded = (positions.float() * frequencies).double()
    worst = float((rounded - positions.double() * exact).abs().max())
    assert said == round(worst, 2)


def test_the_example_of_needles():
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    values: dict[str, str] = {}
    for line in block.splitlines():
        if line not in FILLERS:
            name, value = line.split()
            assert (name in NAMES, value in VALUES) == (True, True)
            assert values.setdefault(name, value) == value


def test_the_code_and_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = " ".join(random.Random(1).choices(WORDS, k=1000))
    letters = "".join([*NAMES, *VALUES, *FILLERS, "\n"])
    data = make_documents(tmp_path / "data", [text], [text[:4000]], letters=letters)
    model = GPTConfig(context_length=64, d_model=8, n_layers=1, n_heads=1)
    pretrain(settings(data, out=Path("runs/story"), model=model, steps=2, sample_every=None))
    monkeypatch.setattr(needle, "needle_recall", partial(needle.needle_recall, per_depth=2))
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "docs/long-context.md", "exec"), {})
    assert "context" in capsys.readouterr().out.lower()
    for line in "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S)).splitlines():
        words = shlex.split(line)[1:]
        verb = next(verb for verb in VERBS if verb.name == words[0])
        options = {f"--{name.replace('_', '-')}" for name in options_of(verb.config_class())}
        assert {word for word in words if word.startswith("--")} <= options
