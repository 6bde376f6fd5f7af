"""Weights that go from the book's model to ours, back, and in from OpenAI's layout."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import groundup
import groundup.book as book
from groundup.base.errors import UserError

CFG: dict[str, Any] = book.GPT_CONFIG_124M | {
    "vocab_size": 40, "context_length": 10, "emb_dim": 24, "n_heads": 3, "n_layers": 2,
}  # fmt: skip
IDS = torch.randint(40, (2, 10), generator=torch.Generator().manual_seed(1))


def model(**changes: Any) -> book.GPTModel:
    torch.manual_seed(3)
    net = book.GPTModel(CFG | changes)
    for parameter in net.parameters():  # norms and biases too
        nn.init.normal_(parameter, 0.1, 0.3)
    return net.eval()


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": True}, {"drop_rate": 0.3}])
def test_to_gpt_and_back(changes: dict) -> None:
    theirs = model(**changes)
    state = torch.get_rng_state()
    ours = groundup.book.to_gpt(theirs)
    again = book.from_gpt(ours)
    assert torch.equal(torch.get_rng_state(), state)
    assert not ours.training
    assert ours.config.dropout == again.drop_emb.p == (CFG | changes)["drop_rate"]
    torch.testing.assert_close(ours(IDS), theirs(IDS), atol=1e-5, rtol=1e-5)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    nn.init.zeros_(ours.head.weight)
    assert theirs.out_head.weight.abs().sum() > 0


def test_our_generation_takes_the_converted_model() -> None:
    theirs, prompt = model(), torch.tensor([[1, 2, 3]])
    greedy = book.generate_text_simple(theirs, prompt, 7, 10)[:, 3:]
    assert groundup.generate(book.to_gpt(theirs), prompt, 7, temperature=0) == greedy.tolist()


def test_tied_weights_stay_tied() -> None:
    theirs = model()
    theirs.out_head.weight = theirs.tok_emb.weight
    ours = book.to_gpt(theirs)
    assert ours.config.tie_embeddings
    assert ours.head.weight is ours.token_embedding.weight
    torch.testing.assert_close(ours(IDS), theirs(IDS), atol=1e-5, rtol=1e-5)
    again = book.from_gpt(ours)
    assert again.out_head.weight is again.tok_emb.weight
    assert torch.equal(again.state_dict()["out_head.weight"], theirs.out_head.weight)


def test_the_type_of_the_weights_is_kept() -> None:
    ours = book.to_gpt(model().double())
    assert ours.head.weight.dtype == torch.float64
    assert book.from_gpt(ours).tok_emb.weight.dtype == torch.float64


def test_changed_models_are_refused() -> None:
    head = model()
    head.out_head = nn.Linear(24, 2)
    with pytest.raises(UserError, match=r"out_head\.bias"):
        book.to_gpt(head)
    head.out_head = nn.Linear(24, 2, bias=False)
    with pytest.raises(UserError, match=r"out_head.weight has the shape \(2, 24\)"):
        book.to_gpt(head)
    other = model()
    other.trf_blocks[0] = nn.Linear(3, 3)
    with pytest.raises(UserError, match="no blocks of the book"):
        book.to_gpt(other)


@pytest.mark.parametrize(
    "config",
    [
        groundup.GPTConfig(d_model=24, n_heads=3, norm_eps=1e-5, activation="gelu"),
        dataclasses.replace(groundup.GPTConfig.gpt2(vocab_size=9), ngram=2, d_model=24, n_layers=1),
        groundup.GPTConfig(
            d_model=24, n_heads=3, norm="layer", norm_eps=1e-6, positions="learned", qk_norm=False,
            activation="gelu", bias=True,
        ),
        groundup.GPTConfig(
            d_model=24, n_heads=3, norm="layer", norm_eps=1e-5, positions="learned", qk_norm=False,
            activation="gelu", bias=True, d_ff=50,
        ),
        dataclasses.replace(
            groundup.GPTConfig.gpt2(vocab_size=9), activation="gelu-exact", d_model=24, n_layers=1
        ),
    ],
)  # fmt: skip
def test_other_architectures_are_refused(config: groundup.GPTConfig) -> None:
    with pytest.raises(UserError, match=r"GPT-2|norm_eps|activation is gelu-exact"):
        book.from_gpt(groundup.GPT(config))


def openai_layout(net: Any) -> dict[str, Any]:
    """The weights of a model in the nested arrays of OpenAI's checkpoint."""

    def linear(layer: Any) -> dict[str, Any]:
        return {"w": layer.weight.detach().numpy().T, "b": layer.bias.detach().numpy()}

    def norm(layer: Any) -> dict[str, Any]:
        return {"g": layer.scale.detach().numpy(), "b": layer.shift.detach().numpy()}

    def joined(attention: Any) -> dict[str, Any]:
        each = [linear(layer) for layer in (attention.W_query, attention.W_key, attention.W_value)]
        return {key: np.concatenate([part[key] for part in each], axis=-1) for key in "wb"}

    blocks = [
        {
            "attn": {"c_attn": joined(b.att), "c_proj": linear(b.att.out_proj)},
            "mlp": {"c_fc": linear(b.ff.layers[0]), "c_proj": linear(b.ff.layers[2])},
            "ln_1": norm(b.norm1),
            "ln_2": norm(b.norm2),
        }
        for b in net.trf_blocks
    ]
    wte, wpe = net.tok_emb.weight.detach().numpy(), net.pos_emb.weight.detach().numpy()
    return {"blocks": blocks, "wte": wte, "wpe": wpe, **norm(net.final_norm)}


def test_load_weights_into_gpt() -> None:
    source = model(qkv_bias=True)
    source.out_head.weight = source.tok_emb.weight
    torch.manual_seed(9)
    net = book.GPTModel(CFG | {"qkv_bias": True}).eval()
    book.load_weights_into_gpt(net, openai_layout(source))
    assert torch.equal(net(IDS), source(IDS))
    assert all(isinstance(parameter, nn.Parameter) for parameter in net.parameters())
    assert net.out_head.weight is not net.tok_emb.weight


def test_weights_of_another_size_are_refused() -> None:
    params = openai_layout(model(qkv_bias=True))
    for changes, sentence in (
        ({}, "qkv_bias=True"),
        ({"qkv_bias": True, "n_layers": 3}, "2 blocks, the model 3"),
        ({"qkv_bias": True, "context_length": 9}, r"\(9, 24\) and \(10, 24\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            book.load_weights_into_gpt(book.GPTModel(CFG | changes), params)
    with pytest.raises(ValueError, match="shapes differ"):
        book.assign(torch.ones(2), np.ones(3))
