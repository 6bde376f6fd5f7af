"""What `groundup windows` shows, as a function."""

from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.data.config import WindowsConfig
from groundup.data.ledger import account
from groundup.data.loader import Loader
from groundup.data.preview import preview_windows
from groundup.data.store import TokenStore
from groundup.data.windows import Windows


@pytest.mark.parametrize("batch_size", [3, 10**9])
def test_the_preview_is_the_beginning_of_the_first_batch(data: Path, batch_size: int) -> None:
    preview = preview_windows(WindowsConfig(data=data, context_length=16, batch_size=batch_size))
    windows = Windows(TokenStore.open(data / "train"), 16)
    inputs, targets = Loader(windows, min(batch_size, 16), seed=1234).batch(0)
    assert preview.input_ids == inputs[:, :8].tolist()
    assert preview.target_ids == targets[:, :8].tolist()
    assert preview.ledger == account(windows, batch_size)
    assert preview.n_windows == len(windows)
    assert [len(context) for context, _ in preview.pairs] == list(range(1, 9))
    assert preview.pairs[-1] == (list("the quic"), "k")


def test_a_batch_of_nothing_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match="batch_size is 0"):
        preview_windows(WindowsConfig(data=data, context_length=16, batch_size=0))
