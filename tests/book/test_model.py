"""The book's model: the same weights, draws and values as an independent one, bit for bit."""

from typing import Any

import pytest
import torch
from plain_book import PlainGPT
from torch import nn

import groundup.book as book
from groundup.base.errors import UserError

TINY: dict[str, Any] = {
    "vocab_size": 50,
    "context_length": 12,
    "emb_dim": 24,
    "n_heads": 4,
    "n_layers": 3,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
IDS = torch.randint(50, (3, 12), generator=torch.Generator().manual_seed(1))


def pair(**changes: Any) -> list[Any]:
    models: list[Any] = []
    for cls in (book.GPTModel, PlainGPT):
        torch.manual_seed(123)
        models.append(cls(TINY | changes))
    return models


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": True}, {"n_heads": 1, "n_layers": 1}])
def test_the_seed_gives_the_book_s_weights(changes: dict) -> None:
    ours, theirs = (model.state_dict() for model in pair(**changes))
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name
    names = ("att.mask", "att.W_query.weight", "att.out_proj.bias", "ff.layers.2.weight")
    assert {f"trf_blocks.0.{name}" for name in (*names, "norm1.scale", "norm2.shift")} <= set(ours)


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": True}, {"drop_rate": 0.5}])
@pytest.mark.parametrize("n_positions", [1, 7, 12])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_equal(changes: dict, n_positions: int, training: bool) -> None:
    results = []
    for model in pair(**changes):
        model.train(training)
        torch.manual_seed(5)  # dropout is drawn in the book's order
        logits = model(IDS[:, :n_positions])
        logits.logsumexp(-1).sum().backward()
        results.append([logits, torch.rand(1), *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_dropout_acts_in_training_only() -> None:
    model = pair()[0]
    assert not torch.equal(model(IDS), model(IDS))
    model.eval()
    assert torch.equal(model(IDS), model(IDS))


def test_a_later_token_changes_nothing_before_it() -> None:
    model = pair()[0].eval()
    changed = IDS.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 50
    a, b = model(IDS), model(changed)
    assert torch.equal(a[:, :7], b[:, :7])
    assert not torch.equal(a[:, 7:], b[:, 7:])


def test_the_number_of_parameters_is_the_book_s() -> None:
    with torch.device("meta"):
        model = book.GPTModel(book.GPT_CONFIG_124M)
    count = sum(p.numel() for p in model.parameters())
    assert count == 163_009_536
    assert count - model.out_head.weight.numel() == 124_412_160
    block: Any = model.trf_blocks[0]
    assert sum(p.numel() for p in block.ff.parameters()) == 4_722_432
    assert sum(p.numel() for p in block.att.parameters()) == 2_360_064


SENTENCE = torch.tensor(
    [
        [0.43, 0.15, 0.89], [0.55, 0.87, 0.66], [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33], [0.77, 0.25, 0.10], [0.05, 0.80, 0.55],
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "make", "first", "last"),
    [
        (123, lambda: book.SelfAttention_v1(3, 2), [0.2996, 0.8053], [0.2990, 0.8040]),
        (789, lambda: book.SelfAttention_v2(3, 2), [-0.0739, 0.0713], [-0.0754, 0.0693]),
        (123, lambda: book.CausalAttention(3, 2, 6, 0.0), [-0.4519, 0.2216], [-0.5299, -0.1081]),
        (
            123,
            lambda: book.MultiHeadAttentionWrapper(3, 2, 6, 0.0, num_heads=2),
            [-0.4519, 0.2216, 0.4772, 0.1063],
            [-0.5299, -0.1081, 0.5077, 0.3493],
        ),
        (
            123,
            lambda: book.MultiHeadAttention(3, 2, 6, 0.0, num_heads=2),
            [0.3190, 0.4858],
            [0.2575, 0.4028],
        ),
    ],
)
def test_the_numbers_of_chapter_3(seed: int, make: Any, first: list, last: list) -> None:
    torch.manual_seed(seed)
    layer = make()
    batched = "SelfAttention" not in type(layer).__name__
    out = layer(torch.stack((SENTENCE, SENTENCE)))[1] if batched else layer(SENTENCE)
    torch.testing.assert_close(out[[0, -1]], torch.tensor([first, last]), atol=6e-5, rtol=0)


def test_the_two_self_attentions_are_the_same_formula() -> None:
    assert book.SelfAttention is book.SelfAttention_v2
    linear, plain = book.SelfAttention_v2(3, 2), book.SelfAttention_v1(3, 2)
    for name in ("W_query", "W_key", "W_value"):
        setattr(plain, name, nn.Parameter(getattr(linear, name).weight.T))
    torch.testing.assert_close(plain(SENTENCE), linear(SENTENCE))


def test_widths_may_differ_and_dropout_is_on_the_weights() -> None:
    torch.manual_seed(0)
    layer = book.MultiHeadAttention(3, 4, 6, 0.5, num_heads=2, qkv_bias=True)
    assert layer(SENTENCE[None]).shape == (1, 6, 4)
    assert not torch.equal(layer(SENTENCE[None]), layer(SENTENCE[None]))
    assert layer.W_key.bias is not None
    wrapped = book.MultiHeadAttentionWrapper(3, 1, 6, 0.0, 2)
    assert sorted(wrapped.state_dict())[:2] == ["heads.0.W_key.weight", "heads.0.W_query.weight"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: book.GPTModel({"vocab_size": 5}), "lacks context_length, emb_dim"),
        (lambda: book.GPTModel(TINY | {"n_heads": 5}), "divisible by num_heads: 24 and 5"),
        (lambda: book.GPTModel(TINY)(torch.zeros(1, 13, dtype=torch.long)), "13 tokens do not fit"),
        (lambda: book.CausalAttention(3, 2, 4, 0.0)(SENTENCE[None]), "6 tokens do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()


def test_a_stored_model_of_the_book_opens(tmp_path) -> None:
    torch.manual_seed(0)
    theirs = PlainGPT(TINY)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    ours = book.GPTModel(TINY)
    ours.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    assert torch.equal(ours.eval()(IDS), theirs.eval()(IDS))
    states = {
        "model_state_dict": theirs.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    }
    torch.save(states, tmp_path / "both.pth")
    both = torch.load(tmp_path / "both.pth", weights_only=True)
    again = book.GPTModel(TINY)
    again.load_state_dict(both["model_state_dict"])
    torch.optim.AdamW(again.parameters()).load_state_dict(both["optimizer_state_dict"])
    assert torch.equal(again.eval()(IDS), theirs(IDS))


@pytest.mark.slow
@pytest.mark.parity
def test_the_logits_that_chapter_4_prints() -> None:
    torch.manual_seed(123)
    model = book.GPTModel(book.GPT_CONFIG_124M)
    logits = model(torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]]))
    assert logits.shape == (2, 4, 50257)
    printed = torch.tensor([[0.3613, 0.4222, -0.0711], [-0.1792, -0.5660, -0.9485]])
    torch.testing.assert_close(logits[0, :2, :3], printed, atol=6e-5, rtol=0)
