"""What a budget chooses for large texts, little memory and mixtures."""

import dataclasses

from groundup.model.config import GPTConfig
from groundup.planning.budget import choose
from groundup.train.data import open_data


def test_a_large_text_does_not_make_a_given_model_too_slow(wishes, machine, monkeypatch):
    machine(2e10)
    text = open_data(wishes.data)
    monkeypatch.setattr(text.train, "n_tokens", 10**10)
    model = GPTConfig(n_layers=4, d_model=256, n_heads=4)
    chosen = choose(dataclasses.replace(wishes, model=model), text, 20.0)
    assert chosen.steps > 50
    # The batch suits the targets of 20 s, which are fewer than those of a pass over the text.
    assert chosen.batch_size * chosen.model.context_length < 2048
