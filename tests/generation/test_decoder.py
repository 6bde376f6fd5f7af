"""The decoder computes what `GPT.forward` computes, for every architecture and order of rows."""

import dataclasses

import pytest
import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

SMALL = {"vocab_size": 60, "context_length": 48, "d_model": 24, "n_layers": 2, "n_heads": 4}
CONFIGS = {
    "ours": GPTConfig(**SMALL),
    "untied, relu2": GPTConfig(**SMALL, tie_embeddings=False, activation="relu2"),
    "n-grams": GPTConfig(**SMALL, ngram=3, ngram_rows=50),
    "look back": GPTConfig(**SMALL, look_back=True, qkv_bias=True, n_kv_heads=2),
    "llama": GPTConfig.llama(**{**SMALL, "n_kv_heads": 2, "d_ff": 40}),
    "interleaved": GPTConfig.llama(
        **{**SMALL, "n_kv_heads": 1, "d_ff": 40, "rotary_layout": "interleaved", "d_head": 10}
    ),
    "qwen3": GPTConfig.llama(**{**SMALL, "n_kv_heads": 2, "d_ff": 40, "qk_norm": True}),
    "gpt2": dataclasses.replace(GPTConfig.gpt2("124M"), **SMALL),
    "layer norm of heads": dataclasses.replace(
        GPTConfig.gpt2("124M"), **SMALL, qk_norm=True, activation="gelu-exact"
    ),
}


def lively(config: GPTConfig) -> GPT:
    """A model with large random weights, whose logits depend on the whole text."""
    model = GPT(config).eval()
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        mean = 1.0 if parameter.ndim == 1 and not name.endswith("bias") else 0.0
        torch.nn.init.normal_(parameter, mean, std=0.1, generator=generator)
    return model


def text(n: int, seed: int = 0) -> list[int]:
    return torch.randint(60, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def whole(model: GPT, ids: list[int]) -> Tensor:
    """The logits (T, V) of `GPT.forward`, without a cache."""
    return model(torch.tensor([ids]))[0].float()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_equal_those_of_the_model(config: GPTConfig) -> None:
    model, ids = lively(config), text(40)
    expected, decoder = whole(model, ids), Decoder(model)
    row = decoder.new_row()
    close(decoder.read(ids, row, n_last=40), expected)
    assert row.ids == ids
    assert row.length == 40
    row = decoder.new_row()  # in parts: a prompt, a token, some tokens, a token
    for start, stop in ((0, 7), (7, 8), (8, 20), (20, 21)):
        close(decoder.read(ids[start:stop], row)[0], expected[stop - 1])
    for at in range(21, 40):
        close(decoder.step([ids[at]], [row])[0], expected[at])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_rows_of_different_lengths_join_and_leave(config: GPTConfig) -> None:
    model = lively(config)
    decoder = Decoder(model)
    texts = [text(30, seed) for seed in range(5)]
    expected = [whole(model, ids) for ids in texts]
    rows = [decoder.new_row() for _ in texts]
    begins, ends = [1, 5, 17, 3, 2], [30, 12, 30, 25, 20]
    for step in range(40):
        joining = [i for i in range(5) if step == 2 * i]
        for i in joining:
            close(decoder.read(texts[i][: begins[i]], rows[i])[0], expected[i][begins[i] - 1])
        active = [i for i in range(5) if step >= 2 * i and rows[i].length < ends[i]]
        if not active:
            continue
        active = active[::-1] if step % 2 else active  # in any order
        logits = decoder.step([texts[i][rows[i].length] for i in active], [rows[i] for i in active])
        for i, found in zip(active, logits, strict=True):
            close(found, expected[i][rows[i].length - 1])
    assert [row.length for row in rows] == ends


def test_a_truncated_row_continues_as_if_the_rest_was_never_read() -> None:
    model, ids = lively(CONFIGS["ours"]), text(40)
    decoder, expected = Decoder(model), whole(lively(CONFIGS["ours"]), ids)
    row = decoder.new_row()
    decoder.read(ids[:20] + text(9, seed=5), row)
    row.truncate(20)
    assert row.ids == ids[:20]
    close(decoder.step([ids[20]], [row])[0], expected[20])
    close(decoder.read(ids[21:], row)[0], expected[-1])


def test_ids_without_a_token_have_no_probability() -> None:
    model = lively(CONFIGS["ours"])
    model.n_used_ids = 50
    decoder = Decoder(model)
    row = decoder.new_row()
    assert decoder.read([1, 2], row)[0, 50:].isneginf().all()
    logits = decoder.step([3], [row])
    assert logits[0, 50:].isneginf().all()
    assert logits[0, :50].isfinite().all()


def test_errors_have_both_numbers() -> None:
    decoder = Decoder(lively(CONFIGS["ours"]))
    row = decoder.new_row(1000)
    with pytest.raises(UserError, match=r"49 tokens do not fit in the model's context of 48"):
        decoder.read(text(49), row)
    assert row.length == 0
    decoder.read(text(48), row)
    with pytest.raises(UserError, match=r"49 tokens do not fit in the model's context of 48"):
        decoder.step([1], [row])
    assert row.length == 48
    for wrong in ([], [60], [-1]):
        with pytest.raises(UserError, match="token ids"):
            decoder.read(wrong, decoder.new_row())
    with pytest.raises(UserError, match="2 tokens for 1 rows"):
        decoder.step([1, 2], [decoder.new_row()])
    with pytest.raises(UserError, match="has 48 positions"):
        row.truncate(49)
