"""What long windows cost with each kind of layer, in a library call and on the screen."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import MODEL, make_data, prose, settings

from groundup.base.errors import UserError
from groundup.cli import layer_costs
from groundup.cli.main import main
from groundup.planning import layer_kinds, memory, throughput
from groundup.planning.layer_kinds import compare_layers
from groundup.planning.throughput import _shortened

T = 1024


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(throughput, "_LONG", 64)
    monkeypatch.setattr(layer_kinds, "_PROBE_S", 0.02)
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)
    monkeypatch.setattr(memory, "_LIBRARY_BYTES", 0)
    monkeypatch.setattr(layer_costs, "LONG", T)
    return make_data(tmp_path / "data", prose(1, 600), prose(2, 100))


def test_every_kind_and_the_own_pattern_have_a_row(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(MODEL, context_length=T, layers="wd", window=16)
    config = settings(text, model=model, batch_size=2, dtype="fp32")
    rows = compare_layers(config)
    assert [row.layers for row in rows] == ["gg", "ww", "dd", "wd"]
    assert [row.name for row in rows] == ["full", "window 16", "delta rule", "wd"]
    for row in rows:
        assert row.fits
        assert row.segment_memory_bytes is not None
        assert row.segment_memory_bytes < row.memory_bytes
        assert row.segment_step_s == pytest.approx(4 / 3 * row.step_s)
    between = sorted([rows[1].memory_bytes, rows[1].segment_memory_bytes or 0])
    monkeypatch.setattr(layer_kinds, "usable_memory_bytes", lambda device: sum(between) // 2)
    row = compare_layers(replace(config, model=replace(model, layers="w")))[1]
    assert (row.fits, row.fits_in_segments) == (False, True)
    with pytest.raises(UserError, match="too few for a window"):
        compare_layers(replace(config, model=replace(model, context_length=10**6)))


def test_the_time_of_a_long_window_follows_from_its_flops(text: Path) -> None:
    window = replace(MODEL, context_length=T, layers="w", window=16)
    short, times = _shortened(settings(text, model=window, batch_size=8, stride=500))
    assert short.model.context_length == 64
    assert (short.batch_size, short.stride) == (1, None)
    assert times == pytest.approx(8 * T / 64, rel=0.01)
    full = replace(MODEL, context_length=T)
    assert _shortened(settings(text, model=full, batch_size=8))[1] > 1.5 * 8 * T / 64
    assert _shortened(settings(text)) == (settings(text), 1.0)


def test_the_table_fits_in_80_columns(
    text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shape = f"--context-length {T} --d-model 16 --n-heads 2 --n-layers 2 --batch-size 1".split()
    shape += ["--layers", "wd", "--window", "16", "--probe-s", "0.1"]
    assert main(["plan", str(text), *shape]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:12])) <= 80
    assert [line.split()[0] for line in lines if line.rstrip().endswith("yes")] == [
        "full",
        "window",
        "delta",
        "wd",
    ]
