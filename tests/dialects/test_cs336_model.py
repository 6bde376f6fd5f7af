"""The adapters of layers and models equal plain formulas in float64, written from the handout."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from groundup import cs336
from groundup.base.errors import UserError
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

B, T, C, H, F, V, L, THETA = 2, 6, 8, 2, 12, 11, 3, 100.0
Array = np.ndarray[Any, Any]


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def close(found: Tensor, wanted: Array, atol: float = 1e-5) -> None:
    # The tables of the rotation are float32.
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-5, atol=atol)


# The plain formulas, in NumPy.
def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def swiglu(x: Array, w1: Array, w2: Array, w3: Array) -> Array:
    return (silu(x @ w1.T) * (x @ w3.T)) @ w2.T


def rmsnorm(x: Array, g: Array, eps: float = 1e-5) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * g


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def attention(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return softmax(scores) @ v


def rope(x: Array, positions: Array, theta: float = THETA) -> Array:
    """Rotate (x[2i], x[2i + 1]) of the last dimension by position * theta^(-2i / d)."""
    d, out = x.shape[-1], np.empty_like(x)
    for i in range(d // 2):
        angle = positions * theta ** (-2 * i / d)
        a, b = x[..., 2 * i], x[..., 2 * i + 1]
        out[..., 2 * i] = a * np.cos(angle) - b * np.sin(angle)
        out[..., 2 * i + 1] = a * np.sin(angle) + b * np.cos(angle)
    return out


def multihead(x: Array, weights: list[Array], positions: Array | None = None) -> Array:
    q, k, v, o = weights
    heads = []
    for h in range(H):
        rows = slice(h * C // H, (h + 1) * C // H)
        qh, kh, vh = x @ q[rows].T, x @ k[rows].T, x @ v[rows].T
        if positions is not None:
            qh, kh = rope(qh, positions), rope(kh, positions)
        heads.append(attention(qh, kh, vh, np.tri(x.shape[-2], dtype=bool)))
    return np.concatenate(heads, -1) @ o.T


def block(x: Array, w: dict[str, Array]) -> Array:
    names = ("q_proj", "k_proj", "v_proj", "output_proj")
    projections = [w[f"attn.{name}.weight"] for name in names]
    x = x + multihead(rmsnorm(x, w["ln1.weight"]), projections, np.arange(x.shape[-2]))
    ffn = [w[f"ffn.w{i}.weight"] for i in (1, 2, 3)]
    return x + swiglu(rmsnorm(x, w["ln2.weight"]), *ffn)


def block_weights(seed: int = 0) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "attn.q_proj.weight": (C, C), "attn.k_proj.weight": (C, C),
        "attn.v_proj.weight": (C, C), "attn.output_proj.weight": (C, C),
        "ln1.weight": (C,), "ln2.weight": (C,),
        "ffn.w1.weight": (F, C), "ffn.w2.weight": (C, F), "ffn.w3.weight": (F, C),
    }  # fmt: skip
    return {n: random(*s, seed=100 * seed + i) for i, (n, s) in enumerate(shapes.items())}


def lm_weights() -> dict[str, Tensor]:
    weights = {
        "token_embeddings.weight": random(V, C, seed=901),
        "ln_final.weight": random(C, seed=902),
        "lm_head.weight": random(V, C, seed=903),
    }
    for layer in range(L):
        for name, value in block_weights(layer).items():
            weights[f"layers.{layer}.{name}"] = value
    return weights


def lm(ids: Array, weights: dict[str, Tensor]) -> Array:
    w = {name: value.numpy() for name, value in weights.items()}
    x = w["token_embeddings.weight"][ids]
    for layer in range(L):
        prefix = f"layers.{layer}."
        x = block(x, {n.removeprefix(prefix): v for n, v in w.items() if n.startswith(prefix)})
    return rmsnorm(x, w["ln_final.weight"]) @ w["lm_head.weight"].T


@pytest.mark.parametrize("leading", [(), (T,), (B, T), (B, 2, T)])
def test_layers(leading: tuple[int, ...]) -> None:
    x, w, v = random(*leading, C), random(F, C, seed=1), random(C, F, seed=2)
    u, g = random(F, C, seed=3), random(C, seed=4)
    ids = torch.randint(V, leading, generator=torch.Generator().manual_seed(1))
    table = random(V, C, seed=5)
    close(cs336.run_linear(C, F, w, x), x.numpy() @ w.numpy().T)
    close(cs336.run_embedding(V, C, table, ids), table.numpy()[ids.numpy()])
    close(cs336.run_silu(x), silu(x.numpy()))
    close(cs336.run_rmsnorm(C, 0.1, g, x), rmsnorm(x.numpy(), g.numpy(), 0.1))
    wanted = swiglu(x.numpy(), w.numpy(), v.numpy(), u.numpy())
    close(cs336.run_swiglu(C, F, w, v, u, x), wanted)
    close(cs336.run_softmax(x, -1), softmax(x.numpy()))
    close(cs336.run_softmax(x + 1000, dim=-1), softmax(x.numpy()))


@pytest.mark.parametrize("leading", [(), (B,), (B, 3)])
def test_attention_with_and_without_a_mask(leading: tuple[int, ...]) -> None:
    q, k, v = random(*leading, 4, 5), random(*leading, 6, 5, seed=1), random(*leading, 6, 3, seed=2)
    mask = torch.rand(*leading, 4, 6, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[..., 0] = True
    for chosen in (None, mask):
        found = cs336.run_scaled_dot_product_attention(Q=q, K=k, V=v, mask=chosen)
        plain = None if chosen is None else chosen.numpy()
        close(found, attention(q.numpy(), k.numpy(), v.numpy(), plain))


def test_rope_rotates_neighbors() -> None:
    x = random(B, H, T, C)
    for positions in (torch.arange(T), torch.tensor([5, 0, 3, 3, 9, 1])):
        found = cs336.run_rope(C, THETA, 10, x, positions)
        close(found, rope(x.numpy(), positions.numpy()))
        close(cs336.run_rope(C, THETA, 10, x[0], positions[None]), found[0].numpy())
        close(cs336.run_rope(C, THETA, 10, x[0, 0], positions), found[0, 0].numpy())
    with pytest.raises(UserError, match="A position is -1"):
        cs336.run_rope(C, THETA, 10, x, torch.arange(T) - 1)


@pytest.mark.parametrize("leading", [(), (B,), (B, 3)])
def test_multihead_attention(leading: tuple[int, ...]) -> None:
    x = random(*leading, T, C)
    q, k, v, o = (random(C, C, seed=seed) for seed in range(1, 5))
    plain = [w.numpy() for w in (q, k, v, o)]
    found = cs336.run_multihead_self_attention(C, H, q, k, v, o, x)
    close(found, multihead(x.numpy(), plain))
    positions = torch.tensor([5, 0, 3, 3, 9, 1])
    wanted = multihead(x.numpy(), plain, positions.numpy())
    for given in (positions, positions[None], positions.expand(*leading, T)):
        found = cs336.run_multihead_self_attention_with_rope(
            C, H, 10, THETA, q, k, v, o, x, token_positions=given
        )
        close(found, wanted)
    found = cs336.run_multihead_self_attention_with_rope(C, H, 10, THETA, q, k, v, o, x)
    close(found, multihead(x.numpy(), plain, np.arange(T)))


def test_positions_that_differ_between_texts() -> None:
    x = random(B, T, C)
    q, k, v, o = (random(C, C, seed=seed) for seed in range(1, 5))
    positions = torch.stack([torch.arange(T), torch.arange(T) * 2])
    found = cs336.run_multihead_self_attention_with_rope(C, H, 20, THETA, q, k, v, o, x, positions)
    for b in range(B):
        plain = [w.numpy() for w in (q, k, v, o)]
        close(found[b], multihead(x[b].numpy(), plain, positions[b].numpy()))


def test_other_input_and_output_widths() -> None:
    x, o = random(B, T, 5), random(7, C, seed=9)
    q, k, v = (random(C, 5, seed=seed) for seed in range(3))
    found = cs336.run_multihead_self_attention(C, H, q, k, v, o, x)
    close(found, multihead(x.numpy(), [w.numpy() for w in (q, k, v, o)]))


def test_block() -> None:
    x, weights = random(B, T, C), block_weights()
    found = cs336.run_transformer_block(C, H, F, 16, THETA, weights, x)
    close(found, block(x.numpy(), {name: w.numpy() for name, w in weights.items()}), atol=1e-4)


@pytest.mark.parametrize("length", [1, T, 16])
def test_language_model(length: int) -> None:
    ids = torch.randint(V, (B, length), generator=torch.Generator().manual_seed(1))
    weights = lm_weights()
    found = cs336.run_transformer_lm(V, 16, C, L, H, F, THETA, weights, ids)
    close(found, lm(ids.numpy(), weights), atol=1e-4)


def test_gradients_flow_to_the_weights() -> None:
    weights = {name: value.float().requires_grad_() for name, value in lm_weights().items()}
    ids = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))
    logits = cs336.run_transformer_lm(V, 16, C, L, H, F, THETA, weights, ids)
    cs336.run_cross_entropy(logits, ids).backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in weights.values())


def test_a_model_of_the_course_becomes_ours_and_back() -> None:
    weights = {name: value.float() for name, value in lm_weights().items()}
    model = cs336.to_gpt(weights, context_length=16, num_heads=H, rope_theta=THETA)
    assert isinstance(model, GPT)
    ids = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))
    wanted = cs336.run_transformer_lm(V, 16, C, L, H, F, THETA, weights, ids)
    torch.testing.assert_close(model(ids), wanted)
    assert len(generate(model, [1, 2, 3], 4)) == 4
    back = cs336.from_gpt(model)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], value) for name, value in weights.items())
    with torch.no_grad():
        model.head.weight.zero_()
    assert torch.equal(back["lm_head.weight"], weights["lm_head.weight"])  # a copy


def test_what_does_not_fit_is_refused() -> None:
    x = random(T, C)
    with pytest.raises(UserError, match=r"shape \(8, 12\) for weight"):
        cs336.run_linear(C, F, random(C, F), x)
    with pytest.raises(UserError, match="One shape is expected"):
        cs336.run_swiglu(C, F, random(F, C), random(C, F), random(F + 1, C), x)
    w = random(C, C)
    with pytest.raises(UserError, match="not divisible by 3 heads"):
        cs336.run_multihead_self_attention(C, 3, w, w, w, w, x)
    weights = lm_weights()
    del weights["layers.1.ln2.weight"]
    for call in (
        lambda: cs336.run_transformer_lm(
            V, 16, C, L, H, F, THETA, weights, torch.zeros(1, 2, dtype=torch.int64)
        ),
        lambda: cs336.to_gpt(weights, context_length=16, num_heads=H),
    ):
        with pytest.raises(UserError, match=r"Missing weights \(1\): layers.1.ln2.weight"):
            call()
    with pytest.raises(UserError, match=r"token_embeddings\.weight is missing"):
        cs336.to_gpt({}, context_length=16, num_heads=H)
    for config in (GPTConfig(d_model=16, n_heads=2), GPTConfig.gpt2()):
        small = GPTConfig(vocab_size=9, d_model=16, n_heads=2, n_layers=1, norm=config.norm)
        with pytest.raises(UserError, match="not a transformer of the course"):
            cs336.from_gpt(GPT(small))
