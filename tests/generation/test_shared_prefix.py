"""Texts whose prompts begin alike copy what was read once, and are the same."""

import pytest
from decoder_models import CONFIGS, lively, text

from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Handle
from groundup.generation.generate import generate
from groundup.generation.request import Request, Sampling


@pytest.mark.parametrize("name", ["llama", "window", "n-grams"])
def test_a_shared_prefix_is_read_once(name):
    decoder = Decoder(lively(CONFIGS[name]), measure=False)
    prefix = text(20, seed=5)
    requests = [
        Request(ids=[*prefix, 1 + i, 2], max_new_tokens=6, sampling=Sampling(temperature=0))
        for i in range(5)
    ]
    alone = [generate(decoder, request.ids, 6, temperature=0) for request in requests]
    decoder.n_computed = 0
    engine = Engine(decoder, max_rows=3)
    engine.share(prefix)
    found: dict[Handle, list[int]] = {engine.submit(request): [] for request in requests}
    while not engine.is_idle:
        for event in engine.step():
            found[event.handle] += [token.id for token in event.tokens]
    assert list(found.values()) == alone
    # The prefix, then of each text two tokens of the prompt and five of the answer.
    assert decoder.n_computed == 20 + 5 * (2 + 5)


def test_a_prompt_that_begins_otherwise_is_read_whole():
    decoder = Decoder(lively(CONFIGS["llama"]), measure=False)
    ids = text(20, seed=6)
    engine = Engine(decoder)
    engine.share(text(20, seed=5))
    handle = engine.submit(Request(ids=ids, max_new_tokens=4, sampling=Sampling(temperature=0)))
    found = []
    while not handle.is_finished:
        found += [token.id for event in engine.step() for token in event.tokens]
    assert found == generate(decoder, ids, 4, temperature=0)
