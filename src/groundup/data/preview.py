"""Show how a text becomes training data: input-target pairs, one batch, the counts of an epoch."""

from dataclasses import dataclass

from groundup.base.calling import takes_settings
from groundup.data.config import WindowsConfig
from groundup.data.ledger import Ledger, account
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.tokenizer.files import load_tokenizer

_MAX_PAIRS = 8
_MAX_ROWS, _MAX_COLUMNS = 16, 8


@dataclass(frozen=True, kw_only=True)
class WindowsPreview:
    """The first pairs of the first window, the beginning of the first batch, and all counts."""

    context_length: int
    stride: int
    batch_size: int
    n_tokens: int
    n_windows: int
    pairs: list[tuple[list[str], str]]
    """(context, next token) as text, one token more each time."""
    input_ids: list[list[int]]
    target_ids: list[list[int]]
    input_text: list[list[str]]
    target_text: list[list[str]]
    ledger: Ledger


@takes_settings(WindowsConfig, "data")
def preview_windows(config: WindowsConfig) -> WindowsPreview:
    """Cut DATA/train into windows and show the beginning of what a training loop would read.

    Raises:
        UserError: There is no token store or tokenizer, or the text has no window of this size.
    """
    store = TokenStore.open(config.data / "train")
    tokenizer = load_tokenizer(config.data / "tokenizer")
    windows = Windows(store, config.context_length, config.stride)
    inputs, targets = windows[0]
    n_pairs = min(_MAX_PAIRS, len(inputs))
    context = [tokenizer.decode([index]) for index in inputs[:n_pairs].tolist()]
    following = [tokenizer.decode([index]) for index in targets[:n_pairs].tolist()]
    # The first rows of the first batch do not depend on its size, so a huge batch costs nothing.
    loader = Loader(windows, min(config.batch_size, _MAX_ROWS), seed=config.seed)
    batch_inputs, batch_targets = loader.batch(0)
    input_ids = batch_inputs[:, :_MAX_COLUMNS].tolist()
    target_ids = batch_targets[:, :_MAX_COLUMNS].tolist()
    return WindowsPreview(
        context_length=config.context_length,
        stride=windows.stride,
        batch_size=config.batch_size,
        n_tokens=store.n_tokens,
        n_windows=len(windows),
        pairs=[(context[: i + 1], following[i]) for i in range(n_pairs)],
        input_ids=input_ids,
        target_ids=target_ids,
        input_text=[[tokenizer.decode([i]) for i in row] for row in input_ids],
        target_text=[[tokenizer.decode([i]) for i in row] for row in target_ids],
        ledger=account(windows, config.batch_size),
    )
