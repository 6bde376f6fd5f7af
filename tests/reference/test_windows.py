"""The reference implementation, on cases computed on paper."""

from groundup.reference.windows import (
    book_windows,
    epoch_batches,
    exact_windows,
    tasks,
    times_trained,
)


def test_the_first_batch_of_the_book() -> None:
    # Chapter 2 prints these for the first tokens of The Verdict, context 4, stride 1 then 4.
    tokens = [40, 367, 2885, 1464, 1807, 3619, 402, 271, 10899]
    assert book_windows(tokens, 4, 1)[:2] == [
        ([40, 367, 2885, 1464], [367, 2885, 1464, 1807]),
        ([367, 2885, 1464, 1807], [2885, 1464, 1807, 3619]),
    ]
    assert book_windows(tokens, 4, 4)[1] == ([1807, 3619, 402, 271], [3619, 402, 271, 10899])


def test_the_window_that_would_end_on_the_last_token_needs_one_more() -> None:
    assert book_windows(range(5), 4, 4) == [([0, 1, 2, 3], [1, 2, 3, 4])]
    assert book_windows(range(4), 4, 4) == []


def test_exact_windows_reach_the_end() -> None:
    assert exact_windows(range(7), 4, 4) == [
        ([0, 1, 2, 3], [1, 2, 3, 4]),
        ([2, 3, 4, 5], [-100, -100, 5, 6]),
    ]
    assert exact_windows(range(3), 8, 8) == [([0, 1], [1, 2])]
    assert exact_windows([5], 8, 8) == []


def test_tasks_grow_by_one() -> None:
    words = ["I", "HAD", "always", "thought"]
    inputs, targets = book_windows(range(4), 3, 1)[0]
    drawn = [([words[i] for i in seen], words[next_]) for seen, next_ in tasks(inputs, targets)]
    assert drawn == [
        (["I"], "HAD"),
        (["I", "HAD"], "always"),
        (["I", "HAD", "always"], "thought"),
    ]


def test_a_wide_stride_leaves_gaps() -> None:
    assert times_trained(8, context_length=2, stride=3) == [0, 1, 1, 0, 1, 1, 0, 0]


def test_drop_last() -> None:
    assert epoch_batches(range(5), 2, drop_last=False) == [[0, 1], [2, 3], [4]]
    assert epoch_batches(range(4), 2, drop_last=True) == [[0, 1], [2, 3]]
