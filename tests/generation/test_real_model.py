"""Real weights: SmolLM2 writes the same text alone, in a batch, and with prompt lookup."""

from pathlib import Path
from typing import Any

import pytest
from peers import smollm2

import groundup
from groundup.evaluation.load import LanguageModel
from groundup.generation.decoder import Decoder
from groundup.generation.generate import generate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder: Path = tmp_path_factory.mktemp("smollm2") / "run"
    groundup.import_pretrained(source=smollm2(), out=folder)
    return groundup.load(folder)


def test_known_text_alone_in_a_batch_and_by_prompt_lookup(model: LanguageModel) -> None:
    decoder = Decoder(model.model)
    texts = ["Once upon a time in a small village", "1 2 3 1 2 3 1 2 3 1 2", "The"]
    prompts = [model.tokenizer.encode(text) for text in texts]
    settings: dict[str, Any] = {"temperature": 0, "stop_ids": model.stop_ids}
    together = generate(decoder, prompts, 60, **settings)
    assert model.tokenizer.decode(together[0]).startswith(
        ", there was a wise old wizard named Elwendi."
    )
    for ids, new in zip(prompts, together, strict=True):
        assert generate(decoder, ids, 60, **settings) == new
        assert generate(decoder, ids, 60, **settings, prompt_lookup=True) == new
