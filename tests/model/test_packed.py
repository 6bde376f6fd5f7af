"""A packed row gives each document what it gets alone."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from decoder_models import CONFIGS, lively, text

from groundup.base.errors import UserError
from groundup.finetune.batches import sequence_loss
from groundup.model import packed as packed_module
from groundup.model.gpt import GPT
from groundup.train.precision import MixedPrecision

LENGTHS = (5, 1, 20, 48, 3, 20)


def documents() -> list[list[int]]:
    return [text(n, seed=i) for i, n in enumerate(LENGTHS)]


def packed() -> torch.Tensor:
    return torch.tensor([[token for ids in documents() for token in ids]])


def targets_of(ids: torch.Tensor) -> torch.Tensor:
    """Random targets at about half of the positions."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(60, ids.shape, generator=generator)
    return targets.masked_fill(torch.rand(ids.shape, generator=generator) < 0.5, -100)


def alone(targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each document as a batch of its own."""
    return zip(packed().split(LENGTHS, dim=1), targets.split(LENGTHS, dim=1), strict=True)


@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_logits_are_those_of_single_documents(kind):
    model = lively(CONFIGS[kind])
    logits = model.logits(model.hidden(packed(), lengths=torch.tensor([LENGTHS])))
    for ids, found in zip(documents(), logits[0].split(LENGTHS), strict=True):
        torch.testing.assert_close(found, model(torch.tensor([ids]))[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_loss_and_gradients_are_those_of_single_documents(kind, checkpointing):
    model = lively(CONFIGS[kind])
    targets = targets_of(packed())
    n = int((targets != -100).sum())
    wanted = 0.0
    for one, its in alone(targets):
        logits = model(one)[0]
        some = torch.nn.functional.cross_entropy(logits, its[0], reduction="sum") / n
        some.backward()
        wanted += some.item()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing = checkpointing
    loss = sequence_loss(model, packed(), targets, torch.tensor([LENGTHS]))
    loss.backward()
    assert loss.item() == pytest.approx(wanted, abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("window", [None, 5, 200])
def test_documents_of_any_length_are_divided_into_tiles(window):
    """The longest ones have more than one tile of queries."""
    lengths = (150, 7, 257, 129, 128, 1)
    config = dataclasses.replace(
        CONFIGS["llama"], context_length=300, sliding_window=window, n_layers=1
    )
    model = lively(config)
    row = torch.randint(60, (1, sum(lengths)), generator=torch.Generator().manual_seed(1))
    found = model.hidden(row, lengths=torch.tensor([lengths]))
    found.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    wanted = torch.cat([model.hidden(ids) for ids in row.split(lengths, dim=1)], dim=1)
    wanted.square().sum().backward()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["ours", "gpt2", "window in one layer"])
def test_in_bfloat16_packed_and_single_documents_agree(kind):
    model = lively(CONFIGS[kind])
    rounded = MixedPrecision(model, torch.bfloat16)
    targets = targets_of(packed())
    n = int((targets != -100).sum())
    loss = sequence_loss(rounded, packed(), targets, torch.tensor([LENGTHS]))
    loss.backward()
    with torch.no_grad():
        exact = sequence_loss(model, packed(), targets, torch.tensor([LENGTHS]))
        parts = [
            sequence_loss(rounded, one, its, reduction="sum")
            for one, its in alone(targets)
            if (its != -100).any()
        ]
    assert loss.dtype == torch.float32
    assert float(sum(parts)) / n == pytest.approx(loss.item(), rel=1e-3)
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_activation_checkpointing_in_bfloat16_changes_nothing():
    targets, found = targets_of(packed()), []
    for checkpointing in (False, True):
        model = lively(CONFIGS["ours"])
        model.activation_checkpointing = checkpointing
        rounded = MixedPrecision(model, torch.bfloat16)
        sequence_loss(rounded, packed(), targets, torch.tensor([LENGTHS])).backward()
        found.append([p.grad for p in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_no_document_changes_another():
    """Not even the n-grams at the start of a document, nor a window across its edge."""
    for config in CONFIGS.values():
        model = lively(config)
        row, lengths = packed(), torch.tensor([LENGTHS])
        changed = row.clone()
        changed[0, :6] = (changed[0, :6] + 1) % 60  # the first two documents
        before, after = (model.hidden(ids, lengths=lengths)[0, 6:] for ids in (row, changed))
        # The decays of a gated delta rule are differences of sums over all documents of a chunk.
        bar = 1e-5 if "d" in config.kinds else 0
        torch.testing.assert_close(before, after, atol=bar, rtol=0)


def test_dropout_acts_on_packed_rows():
    model = GPT(dataclasses.replace(CONFIGS["ours"], dropout=0.5)).train()
    one, other = (model.hidden(packed(), lengths=torch.tensor([LENGTHS])) for _ in range(2))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3], "add up to 3"),
        ([90, 7], "90 tokens do not fit"),
        ([0, 0], "Positive numbers"),
        ([98, -1], "Positive numbers"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, message):
    with pytest.raises(UserError, match=message):
        lively(CONFIGS["ours"]).hidden(packed(), lengths=torch.tensor([lengths]))


def varlen_attn(query, key, value, ends, key_ends, max_q, max_k, *, window_size, enable_gqa):
    """What torch documents of its kernel, which runs on GPUs only: one document after another."""
    assert ends.dtype == key_ends.dtype == torch.int32
    assert torch.equal(ends, key_ends)
    assert max_q == max_k == int(ends.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    mixed = []
    for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (x[start:stop].transpose(0, 1)[None] for x in (query, key, value))
        distance = torch.arange(stop - start)[:, None] - torch.arange(stop - start)
        mask = distance >= -window_size[1]
        if window_size[0] >= 0:
            mask &= distance <= window_size[0]
        one = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=enable_gqa
        )
        mixed.append(one[0].transpose(0, 1))
    return torch.cat(mixed)


def varlen_attn_of_torch_2_11(query, key, value, *positions, window_size):
    assert query.shape[1] == key.shape[1]
    return varlen_attn(query, key, value, *positions, window_size=window_size, enable_gqa=False)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kernel_gives_the_same(kind, monkeypatch):
    """The one for CPUs, torch's kernel for variable lengths, and one document after another."""
    model, found = lively(CONFIGS[kind]), []
    kernels = (varlen_attn, varlen_attn_of_torch_2_11)
    for by_groups, kernel in ((True, None), (False, None), *((False, each) for each in kernels)):
        monkeypatch.setattr(packed_module, "by_blocks", lambda *_, by=by_groups: by)
        has = lambda *_, has=kernel is not None: has  # noqa: E731
        monkeypatch.setattr(packed_module, "has_variable_lengths", has)
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel, raising=False)
        monkeypatch.setattr(packed_module, "_found_kernel", [])
        found.append(model.hidden(packed(), lengths=torch.tensor([LENGTHS])))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["ours", "llama", "window in one layer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_packed_and_single_documents_agree(kind, dtype):
    """With torch's kernel for variable lengths where the widths of the heads fit it."""
    model = lively(dataclasses.replace(CONFIGS[kind], d_head=8)).cuda()
    targets = targets_of(packed())
    mixed, gradients = MixedPrecision(model, dtype), []
    together = [(packed(), targets, torch.tensor([LENGTHS]).cuda())]
    apart = [(ids, its, None) for ids, its in alone(targets) if (its != -100).any()]
    for batches in (together, apart):
        model.zero_grad()
        for ids, its, lengths in batches:
            loss = sequence_loss(mixed, ids.cuda(), its.cuda(), lengths, reduction="sum")
            loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    for one, other in zip(*gradients, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one / scale, other / scale, atol=tolerance, rtol=tolerance)
