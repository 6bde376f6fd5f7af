"""Documents inside windows, held against walking through every token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.ledger import account, times_a_target
from groundup.data.protocol import ArrayTokens
from groundup.data.windows import Coverage, Windows


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    context_length=st.integers(1, 12),
    stride=st.integers(1, 12),
    exact=st.booleans(),
)
def test_isolated_windows_are_those_of_a_naive_walk(
    lengths: list[int], context_length: int, stride: int, exact: bool
) -> None:
    starts = np.cumsum([0, *lengths[:-1]])
    document_of = np.repeat(np.arange(len(lengths)), lengths)
    tokens = ArrayTokens(np.arange(sum(lengths)), starts.tolist())
    stride = min(stride, context_length) if exact else stride
    coverage: Coverage = "exact" if exact else "book"
    try:
        stream = Windows(tokens, context_length, stride, coverage)
        windows = Windows(tokens, context_length, stride, coverage, "isolated")
    except UserError:
        return
    everything = np.arange(len(windows))
    found = windows.boundaries(everything)
    segments = np.repeat(np.arange(len(found.cu_seqlens) - 1), np.diff(found.cu_seqlens))
    table = windows.document_lengths(everything)
    assert table[table > 0].tolist() == np.diff(found.cu_seqlens).tolist()
    assert (table.sum(axis=1) == windows.width).all()
    inputs, targets = windows.gather(everything)
    n_crossing = n_trained = n_dropped = 0
    for i in range(len(windows)):
        _, of_stream = stream.gather(everything[i : i + 1])
        begin = 0
        for t, token in enumerate(inputs[i].tolist()):
            begin = t if t == 0 or token in starts else begin
            assert found.positions[i, t] == t - begin
            segment = segments[i * windows.width : (i + 1) * windows.width]
            same = document_of[token] == document_of[inputs[i]]
            assert np.array_equal(segment == segment[t], same), "a segment is a document"
            target, plain = targets[i, t], of_stream[0, t]
            assert target == (IGNORE_INDEX if plain in starts else plain)
            if plain != IGNORE_INDEX:
                n_trained += target != IGNORE_INDEX
                n_dropped += target == IGNORE_INDEX
                n_crossing += document_of[plain] != document_of[inputs[i, 0]]
    apart, together = account(windows, 3), account(stream, 3)
    assert apart.n_trainings == n_trained
    assert together.n_trainings - apart.n_trainings == n_dropped
    assert apart.n_trainings_crossing == 0
    assert together.n_trainings_crossing == n_crossing
    for ledger in (apart, together):
        parts = (
            ledger.n_targets_once,
            ledger.n_targets_repeated,
            ledger.n_targets_gap,
            ledger.n_targets_tail,
            ledger.n_targets_document,
        )
        assert sum(parts) == ledger.n_targets


@given(n=st.integers(2, 60), context_length=st.integers(1, 12), stride=st.integers(1, 15))
def test_how_often_a_token_is_a_target(n: int, context_length: int, stride: int) -> None:
    try:
        windows = Windows(np.arange(n), context_length, stride)
    except UserError:
        return
    _, targets = windows.gather(np.arange(len(windows)))
    counts = np.bincount(targets.ravel(), minlength=n)
    assert times_a_target(windows, np.arange(1, n)).tolist() == counts[1:].tolist()
