"""A model writes without dropout, also in the middle of its training."""

import pytest

from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

CONFIG = GPTConfig(vocab_size=31, context_length=16, d_model=32, n_layers=2, n_heads=2, dropout=0.5)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_model_in_training_writes_what_it_writes_afterwards(use_cache: bool) -> None:
    model = GPT(CONFIG)
    texts = []
    for training in (True, True, False):
        model.train(training)
        texts.append(generate(model, [1, 2, 3], 12, temperature=2.0, use_cache=use_cache))
        assert model.training == training
    assert texts[0] == texts[1] == texts[2]
