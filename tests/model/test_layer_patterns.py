"""Layers by pattern: attention in a window, gated delta rule, full attention without positions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers import peer

from groundup.base.config import from_mapping, to_mapping
from groundup.base.errors import UserError
from groundup.base.machine import memory_in_use_bytes
from groundup.generation.cache import KVCache
from groundup.generation.decoder import Decoder
from groundup.generation.generate import generate
from groundup.model.attention import attention_formula
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT, Block
from groundup.model.recomputed_attention import recomputed_attention, span_of
from groundup.model.rotary import rotary_tables, rotate
from groundup.reference import attention as reference
from groundup.train.precision import MixedPrecision
from groundup.weights.gguf_writer import write_gguf
from groundup.weights.huggingface import can_export, export_huggingface

SMALL: dict[str, Any] = {
    "vocab_size": 31, "context_length": 400, "d_model": 16, "n_layers": 2, "n_heads": 4,
    "n_kv_heads": 2, "init": "torch", "tie_embeddings": False, "ngram": 2, "ngram_rows": 50,
    "rotary_base": 100.0,
}  # fmt: skip
PATTERNS = ["w", "gw", "d", "dg"]


def model_with(layers: str | None, **changes: Any) -> GPT:
    more = {} if layers is None or "w" not in layers else {"window": 9}
    return GPT(GPTConfig(**{**SMALL, "layers": layers, **more, **changes}), seed=4).eval()


def some_ids(n: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(31, (rows, n), generator=torch.Generator().manual_seed(n))


def gradients(tensors: Sequence[torch.Tensor], result: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    return [result.detach(), *torch.autograd.grad((result * weights).sum(), tensors)]


@pytest.mark.parametrize("rotates", [True, False])
@pytest.mark.parametrize(
    ("n_new", "n_before", "window"),
    [(7, 0, 3), (7, 2, 3), (260, 99, 100), (129, 0, 128), (530, 127, 128), (9, 0, 9), (9, 4, None)],
)
def test_recomputed_attention_equals_the_formula(
    n_new: int, n_before: int, window: int | None, rotates: bool
) -> None:
    rotates = rotates and window is not None
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(2, heads, n, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads, n in ((4, n_new), (2, n_before + n_new), (2, n_before + n_new))
    )
    tables = rotary_tables(n_before + n_new, 8, 100.0, exact=True)
    rotated_q = rotate(q, tables[0][n_before:], tables[1][n_before:]) if rotates else q
    rotated_k = rotate(k, *tables) if rotates else k
    formula = attention_formula(rotated_q, rotated_k, v, window=window)
    relative = rotary_tables(2 * span_of(window or 1), 8, 100.0, exact=True)
    ours = recomputed_attention(
        q,
        k[:, :, n_before:],
        v[:, :, n_before:],
        (k[:, :, :n_before], v[:, :, :n_before]),
        window=window,
        rotary=relative if rotates else None,
    )
    tolerance = 1e-6 if rotates else 1e-12  # tables are float32
    results = zip(gradients([q, k, v], ours), gradients([q, k, v], formula), strict=True)
    for found, expected in results:
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_window_layer_equals_the_numpy_reference() -> None:
    block = model_with("w").blocks[0]
    assert isinstance(block, Block)
    attention = block.attention
    assert attention is not None
    x = torch.randn(1, 300, 16, generator=torch.Generator().manual_seed(2))
    tables = rotary_tables(2 * span_of(9), 4, 100.0)
    seen: list[torch.Tensor] = []
    attention.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        attention(x, tables)
        q, k, v = (each.double().numpy() for each in attention.project(x, None))
    q, k = (each.transpose(0, 2, 1, 3) for each in (q, k))
    q, k = (reference.rotate(each, base=100.0, layout="half") for each in (q, k))
    q, k = (each.transpose(0, 2, 1, 3) for each in (q, k))
    plain = reference.attention(q, k, v, 9).transpose(0, 2, 1, 3).reshape(1, 300, 16)
    np.testing.assert_allclose(seen[0].numpy(), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cut", [[300], [1, 130, 8, 161], [150, 150]])
@pytest.mark.parametrize("layers", [None, *PATTERNS])
def test_segments_equal_the_whole_text(layers: str | None, cut: list[int]) -> None:
    """Hidden states, the gradients of the weights, and those that pass through the state."""
    model, ids = model_with(layers), some_ids(300)
    weights = list(model.parameters())
    whole = model.hidden(ids)
    parts, state = [], None
    for part in torch.split(ids, cut, dim=1):
        hidden, state = model.segment(part, state)
        parts.append(hidden)
    assert state is not None
    assert state.n_tokens == 300
    weights = [w for w in weights if w is not model.head.weight]
    in_parts = gradients(weights, torch.cat(parts, 1))
    for found, expected in zip(in_parts, gradients(weights, whole), strict=True):
        scale = float(expected.abs().max()) + 1e-6
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("layers", PATTERNS)
def test_cached_equals_uncached(layers: str) -> None:
    model, ids = model_with(layers), some_ids(300)
    cache = KVCache(model.config, batch_size=2)
    with torch.inference_mode():
        parts = [model(part, cache=cache) for part in torch.split(ids, [130, 1, 1, 40, 128], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), model(ids), rtol=1e-5, atol=1e-5)


def test_the_memory_of_a_window_stays() -> None:
    model = model_with("w")
    cache, sizes = KVCache(model.config), set()
    with torch.inference_mode():
        for _ in range(40):
            model(some_ids(1, 1), cache=cache)
            sizes.add(cache.n_bytes)
    per_position = 2 * 2 * 8 * 4  # layers, keys and values, float32
    assert max(sizes) <= 20 * per_position


@pytest.mark.parametrize("layers", PATTERNS)
def test_documents_are_computed_as_if_they_were_alone(layers: str) -> None:
    model, ids, lengths = model_with(layers), some_ids(300, 1), [30, 1, 269]
    with torch.no_grad():
        together = model.hidden(ids, lengths=torch.tensor(lengths))[0]
        alone = [model.hidden(part)[0] for part in torch.split(ids, lengths, dim=1)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_dropout_is_the_same_in_both_passes() -> None:
    q, k, v = (torch.randn(1, 2, 200, 8, requires_grad=True) for _ in range(3))
    torch.manual_seed(3)
    mixed = recomputed_attention(q, k, v, window=50, dropout=0.5)
    found = torch.autograd.grad(mixed.sum(), v)[0]
    # The output is linear in the values, so the gradient tells the output.
    assert (found * v).sum().item() == pytest.approx(mixed.sum().item(), rel=1e-4)
    assert 0.9 < float(found.sum()) / (200 * 16) < 1.1


def test_full_attention_of_a_mixed_model_has_no_positions() -> None:
    config = GPTConfig(**{**SMALL, "layers": "wg"})
    assert [config.rotates(layer) for layer in range(2)] == [True, False]
    assert config.window_width == 400
    assert GPTConfig(**{**SMALL, "layers": "g"}).rotates(0)
    assert GPTConfig(**SMALL, layers="g").window_of(1) is None
    alike = (GPT(GPTConfig(**{**SMALL, "layers": each}), seed=1) for each in (None, "gg"))
    hidden = [model.hidden(some_ids(20)) for model in alike]
    assert torch.equal(*hidden)


def test_a_pattern_is_kept_in_files() -> None:
    config = GPTConfig(**{**SMALL, "layers": "wg", "window": 7})
    assert from_mapping(GPTConfig, to_mapping(config)) == config
    assert config.kinds == ("w", "g")


@pytest.mark.parametrize(
    ("settings", "words", "helps"),
    [
        ({"layers": "wgw", "n_layers": 4}, "3 layers|4 layers", {"layers": "wgww"}),
        ({"layers": "wx"}, "letters w, d and g", None),
        ({"layers": ""}, "One letter per layer", {"layers": "ww"}),
        ({"layers": "w", "window": 401}, "window is 401", {"context_length": 401}),
        ({"window": 8}, "no layer has a window", {"layers": "w"}),
        ({"layers": "w", "sliding_window": 8}, "Only one of them", None),
    ],
)
def test_refused(settings: dict[str, Any], words: str, helps: dict[str, Any] | None) -> None:
    with pytest.raises(UserError, match=words) as caught:
        GPTConfig(**{**SMALL, **settings})
    if helps is not None:
        assert caught.value.settings == helps


def test_prompt_lookup_needs_a_model_that_removes_tokens() -> None:
    with pytest.raises(UserError, match="gated delta rule"):
        generate(model_with("d"), [1, 2], 3, prompt_lookup=True)
    decoder = Decoder(model_with("d"))
    row = decoder.new_row()
    decoder.read([1, 2, 3], row)
    with pytest.raises(UserError, match="cannot be removed"):
        row.truncate(2)


@pytest.mark.parametrize("layers", ["wg", "d", "wwdg"])
def test_formats_without_such_layers_refuse_them(layers: str, tmp_path: Path) -> None:
    config = GPTConfig(**{**SMALL, "layers": layers, "ngram": 1, "n_layers": 4})
    model = GPT(config)
    assert not can_export(config)
    with pytest.raises(UserError, match="layers w only"):
        export_huggingface(model, tmp_path / "out")
    with pytest.raises(UserError, match="layers is"):
        write_gguf(model, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_windows_alone_are_exported_as_a_sliding_window(tmp_path: Path) -> None:
    transformers = peer("transformers")
    model = model_with("w", ngram=1)
    export_huggingface(model, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = some_ids(60)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", ["w", "wd"])
def test_generated_in_a_batch_as_alone(layers: str) -> None:
    model, prompts = model_with(layers), [[1, 2, 3], [4] * 30, [7]]
    together = generate(model, prompts, 20, temperature=0)
    alone = [generate(model, each, 20, temperature=0, use_cache=False) for each in prompts]
    assert together == alone


@pytest.mark.parametrize(
    "n",
    [pytest.param(15_000, marks=pytest.mark.slow), pytest.param(100_000, marks=pytest.mark.long)],
)
def test_many_tokens_take_no_more_memory_than_few(n: int) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "d_model": 16,
        "n_heads": 2,
        "n_layers": 2,
        "d_ff": 16,
    }
    model = GPT(GPTConfig(**sizes, context_length=n + 1, layers="wd", window=64)).eval()
    decoder = Decoder(model)
    row, token = decoder.new_row(), 1
    grown = []
    for place in range(n):
        logits = decoder.step([token], [row])[0]
        token = int(logits.argmax() + place) % 64
        if place in (n // 10, n - 1):
            grown.append(memory_in_use_bytes(model.device))
    assert row.length == n
    assert decoder.n_bytes < 100_000
    assert grown[1] - grown[0] < 20e6


def test_mixed_precision_keeps_the_decays_exact() -> None:
    model = model_with("dw")
    rounded = MixedPrecision(model, torch.bfloat16)._rounded_names
    assert "blocks.0.delta.inputs.weight" in rounded
    assert not any("decay" in name for name in rounded)
    ids = some_ids(300)
    exact, half = model.loss(ids, ids), MixedPrecision(model, torch.bfloat16)(ids, ids)
    assert float(half.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    half.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("layers", PATTERNS)
def test_activation_checkpointing_changes_nothing(layers: str) -> None:
    model, ids = model_with(layers, dropout=0.2).train(), some_ids(200)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        model.activation_checkpointing = checkpointing
        found.append(gradients(list(model.parameters()), model.loss(ids, ids)))
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-7)
