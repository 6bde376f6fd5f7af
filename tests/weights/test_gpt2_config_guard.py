"""Every number of GPT-2's config.json that changes the logits is read."""

from pathlib import Path

import pytest

from groundup.weights.gpt2 import read_config


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        ("layer_norm_epsilon", "norm_eps", 1e-3),
        ("n_inner", "d_ff", 96),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("n_positions", "context_length", 40),
    ],
)
def test_what_differs_from_the_usual_is_kept(theirs: str, ours: str, value: float) -> None:
    about = {"vocab_size": 61, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4}
    config = read_config({**about, theirs: value}, where=Path("config.json"))
    assert getattr(config, ours) == value
    usual = read_config(about, where=Path("config.json"))
    assert usual.norm_eps == 1e-5
    assert usual.tie_embeddings
