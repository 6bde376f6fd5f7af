"""A batch of windows over documents has the loss and the gradients of its documents alone."""

import dataclasses

import numpy as np
import pytest
import torch
from decoder_models import CONFIGS, lively
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.batch import Batch, make_batch
from groundup.data.protocol import ArrayTokens
from groundup.data.windows import Coverage, Documents, Windows
from groundup.model import packed
from groundup.model.gpt import GPT
from groundup.train.batches import for_loss
from groundup.train.precision import MixedPrecision

T = 12


def windows(
    lengths: list[int], documents: Documents = "isolated", context_length: int = T
) -> Windows:
    ids = np.random.default_rng(len(lengths)).integers(0, 60, sum(lengths))
    starts = np.cumsum([0, *lengths[:-1]])
    tokens = ArrayTokens(ids, starts.tolist())
    coverage: Coverage = "exact" if documents == "isolated" else "book"
    return Windows(tokens, context_length, coverage=coverage, documents=documents)


def alone(model: GPT, over: Windows) -> Tensor:
    """The sum of the losses of the documents, each in a batch of its own, from the token table."""
    starts = [*over.tokens.document_starts.tolist(), over.n_tokens]
    document_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    losses = []
    for index in range(len(over)):
        if over.rows is None:
            first = over.start(index)
            places = np.arange(first, first + over.width + 1)
            counted = np.arange(over.width) >= over.n_repeated(np.array([index]))[0]
            pieces = [
                (places[:-1][inside], counted[inside])
                for document in np.unique(document_of[places[:-1]])
                for inside in [document_of[places[:-1]] == document]
            ]
        else:
            pieces = [
                (np.arange(first, first + n), np.ones(n, dtype=bool))
                for first, n in over.rows.pieces(index)
            ]
        for piece, counted in pieces:
            ids = torch.from_numpy(over.tokens.read(0, over.n_tokens))
            logits = model(ids[piece][None])[0]
            # The next token is a target if it is in the same document.
            next_ones = np.minimum(piece + 1, over.n_tokens - 1)
            is_target = counted & (piece + 1 < over.n_tokens)
            is_target &= document_of[next_ones] == document_of[piece]
            targets = torch.where(torch.from_numpy(is_target), ids[next_ones], IGNORE_INDEX)
            losses.append(
                torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
                if is_target.any()
                else logits.sum() * 0
            )
    return torch.stack(losses).sum()


def batch_of(over: Windows) -> Batch:
    return make_batch(over, np.arange(len(over)))


def gradients(model: GPT, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_same(model: GPT, over: Windows) -> None:
    wanted = alone(model, over)
    expected = gradients(model, wanted)
    found = model.loss(*for_loss(batch_of(over)), reduction="sum")
    got = gradients(model, found)
    n = max(1, int((batch_of(over)[1] != IGNORE_INDEX).sum()))
    assert found.item() / n == pytest.approx(wanted.item() / n, abs=1e-5)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one / n, other / n, atol=1e-5, rtol=1e-5)


LENGTHS = st.lists(
    st.one_of(st.sampled_from([1, 2, T, T + 1, 2 * T + 1, 30]), st.integers(1, 9)),
    min_size=2,
    max_size=9,
).filter(lambda lengths: max(lengths) > 1)


@pytest.mark.parametrize("kind", CONFIGS)
@settings(max_examples=4, deadline=None)
@given(
    lengths=LENGTHS,
    documents=st.sampled_from(["isolated", "packed", "padded"]),
    way=st.sampled_from(["plain", "masked", "checkpointing"]),
)
def test_random_documents(kind: str, lengths: list[int], documents: Documents, way: str) -> None:
    """Of one token, ending with a window, and longer than several; in every architecture."""
    model = lively(CONFIGS[kind])
    model.activation_checkpointing = way == "checkpointing"
    with pytest.MonkeyPatch.context() as patch:
        if way == "masked":  # as in a compiled program
            patch.setattr(packed, "_shapes_stay", lambda tensor: True)
        assert_same(model, windows(lengths, documents))


@pytest.mark.parametrize("way", ["grouped", "masked", "one by one"])
@pytest.mark.parametrize("kind", ["ours", "window", "n-grams", "gpt2"])
def test_documents_longer_than_a_block_of_attention(kind, way, monkeypatch):
    config = dataclasses.replace(CONFIGS[kind], context_length=300)
    model = lively(config)
    monkeypatch.setattr(packed, "_shapes_stay", lambda tensor: way == "masked")
    if way == "one by one":
        monkeypatch.setattr(packed, "by_blocks", lambda *_: False)
    assert_same(model, windows([150, 7, 400, 1, 129], context_length=300))


def test_a_mask_for_the_fused_kernel_is_right_too(monkeypatch):
    monkeypatch.setattr(packed, "_shapes_stay", lambda tensor: True)
    monkeypatch.setattr(packed, "by_blocks", lambda *_: False)
    assert_same(lively(CONFIGS["window"]), windows([5, 1, 20, 3, 12, 2]))


def test_in_bfloat16_it_is_near():
    model = lively(CONFIGS["ours"])
    rows = for_loss(batch_of(windows([5, 1, 20, 3, 12, 2, 30])))
    exact, rounded = model.loss(*rows), MixedPrecision(model, torch.bfloat16)(*rows)
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    rounded.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("documents", ["isolated", "padded"])
def test_dropout_does_not_let_documents_see_each_other(documents):
    model = lively(dataclasses.replace(CONFIGS["ours"], dropout=0.3)).train()
    inputs, targets, lengths = for_loss(batch_of(windows([5, 4, 20, 3, 12, 2], documents)))
    targets[:, lengths[0, 0] :] = IGNORE_INDEX  # only the first document of a row counts
    changed = inputs.clone()
    changed[:, lengths[0, 0] :] = 7
    found = []
    for ids in (inputs, changed):
        torch.manual_seed(5)
        found.append(model.loss(ids[:1], targets[:1], lengths[:1]).item())
    assert found[0] == found[1]
    torch.manual_seed(6)
    assert model.loss(inputs[:1], targets[:1], lengths[:1]).item() != found[0]


def test_what_a_row_cannot_hold_is_refused():
    model = lively(CONFIGS["ours"])
    ids = torch.zeros(2, 6, dtype=torch.int64)
    with pytest.raises(UserError, match=r"There are 12 token ids, and .* add up to 11"):
        model.hidden(ids, lengths=torch.tensor([[6], [5]]))
    with pytest.raises(UserError, match="Positive numbers"):
        model.hidden(ids, lengths=torch.tensor([[6, 0], [7, -1]]))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["ours", "llama", "window in one layer", "n-grams"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_it_is_the_same(kind, dtype, compiled):
    """With flash attention for variable lengths in bfloat16, and with a mask in float32."""
    config = dataclasses.replace(CONFIGS[kind], d_head=8)
    over = windows([5, 1, 20, 3, 12, 2, 30])
    expected = gradients(model := lively(config), alone(model, over))
    packed.variable_length_kernel()
    model = lively(config).cuda()
    mixed = MixedPrecision(model, dtype)
    if compiled:
        mixed.compile(dynamic=False)
    rows = [tensor.cuda() for tensor in for_loss(batch_of(over))]
    found = gradients(model, mixed(*rows, reduction="sum"))
    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    for one, other in zip(found, expected, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one.cpu() / scale, other / scale, atol=tolerance, rtol=0.1)
