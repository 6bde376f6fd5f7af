"""The model: sizes, first loss, determinism, training, precision, compilation."""

import inspect
import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from groundup.base.errors import UserError
from groundup.model.attention import scaled_dot_product_attention
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters, parameters_by_part
from groundup.model.gpt import GPT, check_ids
from groundup.model.loss import cross_entropy

SMALL: dict[str, Any] = {
    "vocab_size": 31, "context_length": 16, "d_model": 24, "n_layers": 2, "n_heads": 4
}  # fmt: skip
OURS = GPTConfig(**SMALL)
GPT2 = GPTConfig(
    **SMALL, norm="layer", positions="learned", qk_norm=False, activation="gelu",
    bias=True, qkv_bias=True, init="gpt2",
)  # fmt: skip
LLAMA = GPTConfig.llama(**{**SMALL, "n_kv_heads": 2, "d_ff": 40})
MIXED = GPTConfig(
    **SMALL, n_kv_heads=1, d_head=10, rotary_layout="interleaved", tie_embeddings=False
)
NO_BIAS = GPTConfig(**SMALL, norm="layer", activation="gelu", dropout=0.1)
FAST = GPTConfig(**SMALL, norm="layer", activation="relu2", qkv_bias=True, look_back=True)
CONFIGS = [OURS, GPT2, LLAMA, MIXED, NO_BIAS, FAST]


def batch(config: GPTConfig, B: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(config.vocab_size, (B, config.context_length + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("config", CONFIGS)
def test_count_equals_the_built_model(config: GPTConfig) -> None:
    assert count_parameters(config) == sum(p.numel() for p in GPT(config).parameters())


@pytest.mark.parametrize(
    ("config", "n_parameters"),
    [
        # Without biases for queries, keys and values, as in courses.
        (GPTConfig.gpt2("124M", qkv_bias=False), 124_412_160),
        (GPTConfig.gpt2("124M", qkv_bias=False, tie_embeddings=False), 163_009_536),
        # With them, as in the published weights.
        (GPTConfig.gpt2("124M"), 124_439_808),
        (GPTConfig.gpt2("355M"), 354_823_168),
        (GPTConfig.gpt2("774M"), 774_030_080),
        (GPTConfig.gpt2("1558M"), 1_557_611_200),
        (GPTConfig.llama(), 1_100_048_384),  # TinyLlama 1.1B
    ],
)
def test_published_sizes(config: GPTConfig, n_parameters: int) -> None:
    assert count_parameters(config) == n_parameters
    assert sum(parameters_by_part(config).values()) == n_parameters


@pytest.mark.parametrize("config", CONFIGS)
def test_first_loss_is_near_that_of_the_uniform_distribution(config: GPTConfig) -> None:
    loss = GPT(config).eval().loss(*batch(config))
    assert abs(loss.item() - math.log(config.vocab_size)) < 0.1


@pytest.mark.parametrize("d_model", [64, 768])
def test_first_loss_stays_there_at_any_width(d_model: int) -> None:
    config = GPTConfig(vocab_size=500, d_model=d_model, n_heads=4, n_layers=1, context_length=32)
    assert abs(GPT(config).loss(*batch(config)).item() - math.log(500)) < 0.1


@pytest.mark.parametrize("config", [OURS, MIXED])
def test_each_head_starts_with_matrices_as_muon_keeps_them(config: GPTConfig) -> None:
    for block in GPT(config).blocks:
        weights: Any = block.attention.qkv.weight
        for matrix in weights.split(config.head_width):
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(config.head_width))


def test_the_seed_fixes_the_weights_and_leaves_the_global_state_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (GPT(OURS, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("config", [OURS, GPT2, LLAMA, MIXED])
def test_it_overfits_a_batch_and_updates_every_parameter(config: GPTConfig) -> None:
    model = GPT(config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ids, targets = batch(config, B=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model.loss(ids, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3
    unchanged = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert not unchanged


@pytest.mark.parametrize("config", [OURS, GPT2, LLAMA, MIXED])
def test_no_position_depends_on_later_ones(config: GPTConfig) -> None:
    model = GPT(config)
    for p in model.parameters():  # not the zero initialization, where nothing could leak
        torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(p.numel()))
    ids, _ = batch(config, B=1)
    changed = ids.clone()
    changed[0, 9] = (ids[0, 9] + 1) % config.vocab_size
    a, b = model(ids), model(changed)
    torch.testing.assert_close(a[:, :9], b[:, :9])
    assert not torch.allclose(a[:, 9:], b[:, 9:])


def test_hidden_is_the_input_of_the_head() -> None:
    model = GPT(OURS, seed=3)
    ids, _ = batch(OURS)
    torch.testing.assert_close(model.head(model.hidden(ids)), model(ids))


def test_a_text_longer_than_the_context_is_an_error() -> None:
    with pytest.raises(UserError, match=r"17 tokens do not fit .* context of 16"):
        GPT(OURS)(torch.zeros(1, 17, dtype=torch.long))


def test_dropout_acts_in_training_only() -> None:
    model = GPT(NO_BIAS)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(p.numel()))
    ids, _ = batch(NO_BIAS)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_the_loss_ignores_targets_of_minus_100() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, -100, 4], [-100, -100, 0]])
    log_probabilities = logits.double().log_softmax(-1)
    counted = [(0, 0, 1), (0, 2, 4), (1, 2, 0)]
    expected = -sum(log_probabilities[b, t, v].item() for b, t, v in counted)
    assert cross_entropy(logits, targets, reduction="sum").item() == pytest.approx(expected)
    assert cross_entropy(logits, targets).item() == pytest.approx(expected / 3)
    assert cross_entropy(logits, torch.full((2, 3), -100)).isnan()


@pytest.mark.parametrize("config", [OURS, GPT2, LLAMA])
def test_bfloat16_autocast_is_near(config: GPTConfig) -> None:
    model = GPT(config, seed=1)
    ids, targets = batch(config)
    exact = model.loss(ids, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(ids, targets)
    rough.backward()
    assert rough.dtype == torch.float32
    assert abs(exact.item() - rough.item()) < 0.02
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("config", ["GPTConfig(context_length=32)", "GPTConfig.gpt2('124M')"])
def test_it_compiles_as_one_graph(config: str) -> None:
    # In a separate process: under pytest calls are type-checked, which breaks the graph.
    code = f"""
import torch
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
model = GPT({config}, seed=1)
ids = torch.arange(33)[None]
compiled = torch.compile(model.loss, fullgraph=True, backend="aot_eager")
losses = [loss(ids[:, :-1], ids[:, 1:]) for loss in (model.loss, compiled)]
torch.testing.assert_close(*losses)
losses[1].backward()
assert all(p.grad is not None for p in model.parameters())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_shared_keys_in_float32_take_no_memory_of_all_scores() -> None:
    T = 4096
    queries = torch.randn(1, 6, T, 32, device="cuda")
    keys = torch.randn(1, 2, T, 32, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    mixed = scaled_dot_product_attention(queries, keys, keys, causal=True)
    assert torch.cuda.max_memory_allocated() - before < 6 * T * T  # a quarter of the scores
    repeated = keys.cpu().repeat_interleave(3, dim=1)
    expected = scaled_dot_product_attention(queries.cpu(), repeated, repeated, causal=True)
    torch.testing.assert_close(mixed.cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_cuda_equals_cpu() -> None:
    ids, targets = batch(LLAMA)
    cpu = GPT(LLAMA, seed=1)
    gpu = GPT(LLAMA, seed=1).cuda()
    torch.testing.assert_close(
        gpu.loss(ids.cuda(), targets.cuda()).cpu(), cpu.loss(ids, targets), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "wrong",
    [
        torch.arange(5),
        torch.arange(5)[None, None],
        torch.zeros(1, 5),
        torch.zeros(1, 5, dtype=torch.bool),
        torch.zeros(1, 5, dtype=torch.uint8),
        torch.tensor([[3, 11]]),
        torch.tensor([[-1, 3]]),
        torch.zeros(2, 0, dtype=torch.int64),
    ],
    ids=str,
)
def test_wrong_input_is_refused_in_one_sentence(wrong: Any) -> None:
    model = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2))
    for read in (model, model.hidden, lambda ids: model.loss(ids, ids)):
        with pytest.raises(UserError, match=r"\(B, T\) int64 below 11 is expected"):
            read(wrong)
    with pytest.raises(UserError, match="are of type list"):
        inspect.unwrap(check_ids)(
            [[1, 2]], vocab_size=11, context_length=8
        )  # without jaxtyping's own check
    with pytest.raises(UserError, match="9 tokens do not fit in the model's context of 8"):
        model(torch.zeros(1, 9, dtype=torch.int64))
    assert model(torch.tensor([[0, 10]], dtype=torch.int32)).shape == (1, 2, 11)


def test_exact_gelu_is_another_model_than_the_tanh_form() -> None:
    ids = torch.arange(8)[None]
    logits = []
    for activation in ("gelu", "gelu-exact"):
        config = GPTConfig(
            vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2, init="torch",
            activation=activation,
        )  # fmt: skip
        logits.append(GPT(config, seed=1)(ids))
    assert 1e-7 < (logits[0] - logits[1]).abs().max().item() < 1e-2
