"""The model of a story: at most four passes over the text, on any machine and for any text.

Its last loss is its best one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import make_data, prose

from groundup.model.count import count_parameters, flops_per_token
from groundup.planning import budget
from groundup.planning.throughput import Speed
from groundup.pretraining.pretrain import pretrain
from groundup.story.model_choice import MAX_PASSES, choose_pretraining, n_passes
from groundup.text.builtin import python_reference
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data
from groundup.weights.huggingface import can_export


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A machine of so many FLOP/s, with a millisecond lost in every step."""

    def of(flops_per_s: float) -> None:
        def probe(
            config: PretrainConfig, data: Any, seconds: float, *, validates: bool = True
        ) -> Speed:
            window = flops_per_token(config.model) * config.model.context_length
            step_s = 0.001 + window * config.batch_size / flops_per_s
            return Speed(step_s=step_s, window_s=window / 3 / flops_per_s)

        monkeypatch.setattr(budget, "probe", probe)

    return of


@pytest.mark.parametrize("n_words", [600, 10_000, 60_000])
def test_no_machine_reads_a_text_more_than_four_times(
    n_words: int, machine: Callable[[float], None], tmp_path: Path
) -> None:
    folder = make_data(tmp_path / "data", prose(1, n_words), prose(2, 300))
    data, sizes = open_data(folder), []
    for flops_per_s in (1e9, 3e10, 1e12, 1e14):
        machine(flops_per_s)
        chosen = choose_pretraining(PretrainConfig(data=folder, out=tmp_path / "run"), 120.0)
        assert 0 < n_passes(chosen, data) <= MAX_PASSES
        assert chosen.steps >= 10
        # The batch is that of a run of this length.
        tokens = chosen.steps * chosen.batch_size * chosen.model.context_length
        best = 2048 * (tokens / 2e6) ** 0.5 / chosen.model.context_length
        assert chosen.batch_size <= max(2, 1.3 * best)
        assert chosen.samples.sample_every == -(-chosen.steps // 3)
        assert chosen.validation.validate_every is not None
        assert can_export(chosen.model)
        sizes.append(count_parameters(chosen.model))
    # A faster machine takes a larger model, while the text is large enough for one.
    assert sizes == sorted(sizes)
    assert n_words < 60_000 or sizes[0] < sizes[-1]


@pytest.mark.slow
@pytest.mark.parametrize("flops_per_s", [1e10, 4e10])
def test_the_last_loss_of_a_story_is_its_best(
    flops_per_s: float, machine: Callable[[float], None], tmp_path: Path
) -> None:
    """On a machine that the choice takes for one of this speed, whatever the real one does."""
    text = "\n\n".join(document.text for document in python_reference())
    folder = make_data(tmp_path / "data", text[:216_000], text[216_000:240_000])
    machine(flops_per_s)
    chosen = choose_pretraining(PretrainConfig(data=folder, out=tmp_path / "run"), 2.0)
    assert chosen.steps > 90
    trained = pretrain(chosen)
    assert trained.best_step == trained.steps == chosen.steps
    assert trained.validation_loss_nats < 0.8 * trained.first_validation_loss_nats
