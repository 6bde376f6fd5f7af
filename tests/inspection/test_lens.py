"""The last layer of the lens is the model, and the others are its own norm and head."""

import dataclasses
import threading

import pytest
import torch
from decoder_models import CONFIGS, lively, text, whole

from groundup.base.errors import UserError
from groundup.generation import decoder as decoders
from groundup.generation.decoder import Decoder
from groundup.inspection.capture import capture
from groundup.inspection.lens import MOST_TOKENS, look
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT


@torch.inference_mode()
def by_layers(model: GPT, ids: list[int]) -> torch.Tensor:
    """Norm and head of what goes into the first block and comes out of each one, by hooks."""
    found: list[torch.Tensor] = []
    hooks = [
        model.blocks[0].register_forward_pre_hook(lambda _, x: found.append(x[0][0, -1])),
        *(b.register_forward_hook(lambda _, __, y: found.append(y[0, -1])) for b in model.blocks),
    ]
    model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return model.head(model.final_norm(torch.stack(found)))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_layer_and_head_is_that_of_the_model(
    config: GPTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "CHUNK", 16)
    model, ids = lively(config), text(29)
    decoder = Decoder(model, measure=False)
    seen = look(decoder, ids)
    assert torch.equal(seen.logits[-1:], decoder.read(ids, decoder.new_row()))
    torch.testing.assert_close(seen.logits[-1], whole(model, ids)[-1], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(seen.logits, by_layers(model, ids), atol=2e-5, rtol=1e-4)
    if "d" in config.kinds:  # a gated delta rule has no attention weights
        sums = seen.attention.sum(dim=(1, 2)) / config.n_heads
        assert sums.tolist() == pytest.approx([float(kind != "d") for kind in config.kinds])
    else:
        expected = capture(model, ids).attention[:, :, -1]
        torch.testing.assert_close(seen.attention, expected, atol=1e-5, rtol=1e-4)
    assert seen.attention.shape == (config.n_layers, config.n_heads, len(ids))
    assert (seen.attention[-1, :, 0] == 0).all() == (config.window_of(1) is not None)


def test_a_look_has_rows_of_its_own() -> None:
    decoder = Decoder(lively(CONFIGS["window"]), measure=False)
    row = decoder.new_row()
    decoder.read(text(20), row)
    n_bytes, stored = decoder.n_bytes, row.place.slab.keys[0].clone()
    found = threading.Thread(target=look, args=(decoder, text(30, seed=1)))
    found.start()
    found.join()
    assert decoder.n_bytes == n_bytes
    assert torch.equal(row.place.slab.keys[0], stored)


def test_too_long_a_text_is_refused_with_both_counts() -> None:
    config = dataclasses.replace(CONFIGS["ours"], context_length=2 * MOST_TOKENS)
    with pytest.raises(UserError, match=r"1,025 tokens.*at most 1,024"):
        look(Decoder(lively(config), measure=False), text(MOST_TOKENS + 1))
    with pytest.raises(UserError, match="no token ids"):
        look(Decoder(lively(config), measure=False), [])
