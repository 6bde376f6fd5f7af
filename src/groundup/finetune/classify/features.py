"""Pooled hidden states of texts, computed once and kept on disk.

A file belongs to one model, length limit and number format. It holds a row per text, found again by
the hash of its token ids, so that another split, another class balance or more texts cost only what
is new. What an interrupted command has computed is kept.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.files import atomic_path, remove_left_over
from groundup.base.results import written_if_possible
from groundup.finetune.classify.fixed_shapes import OnTokens, run_texts
from groundup.finetune.classify.heads import Pooling, pool
from groundup.model.gpt import GPT

_log = logging.getLogger(__name__)
_SAVE_EVERY_S = 20.0


def cache_file(
    folder: Path, fingerprint: str, *, pooling: Pooling, max_tokens: int, dtype: str
) -> Path:
    """Name the file of the hidden states of a model in its run folder.

    Args:
        folder: The folder `features` in the run of the model.
        fingerprint: `base_fingerprint` of the model.
        pooling: How the states of a text are summarized.
        max_tokens: Number of tokens of a text that are read.
        dtype: Format of the matrix products.
    """
    about = json.dumps([1, fingerprint, pooling, max_tokens, dtype])
    return folder / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.safetensors"


def hidden_features(
    gpt: GPT,
    rows: Sequence[Sequence[int]],
    *,
    pooling: Pooling,
    dtype: torch.dtype,
    file: Path | None = None,
    on_tokens: OnTokens | None = None,
) -> Float[np.ndarray, "N P"]:
    """Compute the pooled hidden states of texts, or read them.

    Args:
        gpt: The model, in evaluation mode.
        rows: The token ids of each text.
        pooling: See `pool`.
        dtype: Format of the matrix products.
        file: Where they are kept. None: nowhere.
        on_tokens: Called after each batch.
    """
    cache = _Cache(file)
    keys = [hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).digest() for ids in rows]
    new = {key: row for key, row in zip(keys, rows, strict=True) if key not in cache.states}
    names, texts = list(new), list(new.values())

    def take(numbers: list[int], hidden: Float[Tensor, "B T C"], lengths: Tensor) -> None:
        pooled = pool(hidden, lengths, pooling).cpu().numpy()
        for row, number in enumerate(numbers):
            cache.states[names[number]] = pooled[row]
        cache.save_if_due()

    if texts:
        try:
            run_texts(
                gpt.hidden,
                texts,
                take,
                device=gpt.device,
                dtype=dtype,
                limit=gpt.config.context_length,
                on_tokens=on_tokens,
            )
        finally:
            cache.save()
    return np.stack([cache.states[key] for key in keys])


class _Cache:
    """The states by the hash of the text, and the file that keeps them."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.states: dict[bytes, NDArray[np.float32]] = {}
        self._saved_at, self._n_saved = time.monotonic(), 0
        if file is None:
            return
        remove_left_over(file)
        if not file.is_file():
            return
        try:
            found = load_file(file)
            states = zip(found["keys"], found["states"], strict=True)
            self.states = {key.tobytes(): row for key, row in states}
        except Exception as error:  # the file is only a copy of what can be computed again
            _log.warning("%s cannot be read (%s) and is computed again", file, error)
        self._n_saved = len(self.states)

    def save_if_due(self) -> None:
        if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        if self.file is None or len(self.states) == self._n_saved:
            return
        written_if_possible(self._write)
        self._saved_at, self._n_saved = time.monotonic(), len(self.states)

    def _write(self) -> None:
        assert self.file is not None
        keys = np.frombuffer(b"".join(self.states), dtype=np.uint8).reshape(-1, 32)
        states = np.stack(list(self.states.values()))
        tensors: dict[str, NDArray[Any]] = {"keys": keys, "states": states}
        try:
            with atomic_path(self.file) as temporary:
                save_file(tensors, temporary)
        except Exception as error:
            if isinstance(error, (UserError, OSError)):
                raise
            raise UserError(f"This cannot be written ({error}).", where=self.file) from error
