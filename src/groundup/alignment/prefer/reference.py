"""Log-probabilities of all answers under the model before training, computed once and stored.

The file in the run folder says which model, template and data its values belong to. Values of
another model would train toward the wrong reference without any error, so they are never used: they
are computed again, and the log says why.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from groundup.alignment.prefer.batches import PairRows, pair_batch
from groundup.alignment.prefer.losses import pair_log_probabilities
from groundup.base.files import write_bytes
from groundup.model.gpt import GPT
from groundup.model.lora import without_lora
from groundup.train.precision import MixedPrecision

_log = logging.getLogger(__name__)

FILE = "reference.safetensors"
_SAVE_EVERY_S = 20.0
_VALUES, _CHECKSUM = "log_probabilities", "sha256"


@dataclass(frozen=True)
class Reference:
    """Log-probabilities under the reference model, and where they come from."""

    nats: Float[Tensor, "n 2"]
    """Sums over the tokens of the chosen and of the rejected answer of each pair."""
    cached_in: Path | None
    """The file they were read from. None: they were computed."""


def reference_key(
    model_sha256: str, template: str, dtype: torch.dtype, rows: Sequence[PairRows]
) -> dict[str, str]:
    """Name everything that the reference log-probabilities depend on.

    Args:
        model_sha256: Hash of the base weights and the tokenizer.
        template: The chat template.
        dtype: Number format of the products.
        rows: The ids and targets of all pairs.
    """
    data = hashlib.sha256(repr(rows).encode())
    return {
        "model": model_sha256,
        "template": hashlib.sha256(template.encode()).hexdigest(),
        "data": data.hexdigest(),
        "number format": str(dtype).removeprefix("torch."),
    }


def reference_log_probabilities(
    model: GPT | MixedPrecision,
    rows: Sequence[PairRows],
    folder: Path,
    key: Mapping[str, str],
    *,
    also_in: Sequence[Path] = (),
    batch_size: int = 16,
    on_pair: Callable[[int], None] | None = None,
) -> Reference:
    """Read the log-probabilities of all answers from a run folder, or compute and store them.

    They are those of the model without its adapters, whatever the adapters have learned. If this
    is interrupted, the next call goes on with the pairs that are not done.

    Args:
        model: The model, with or without adapters.
        rows: Ids and targets of the chosen and the rejected answer of each pair.
        folder: The run folder.
        key: What they depend on, from `reference_key`.
        also_in: Other run folders that may have them.
        batch_size: Number of pairs computed at once.
        on_pair: Called with the number of pairs done.
    """
    nats = torch.full((len(rows), 2), math.nan)
    for place in (folder, *also_in):
        found = _read(place / FILE, key, len(rows), is_own=place == folder)
        if found is not None and not found.isnan().any():
            if place != folder:
                _write(folder / FILE, key, found)
            return Reference(found, place / FILE)
        if found is not None and place == folder:
            nats = found  # of the pairs that were done before an interruption
    saved_at = time.monotonic()

    def on_batch(n_done: int) -> None:
        nonlocal saved_at
        if time.monotonic() - saved_at > _SAVE_EVERY_S:
            _write(folder / FILE, key, nats)
            saved_at = time.monotonic()
        if on_pair is not None:
            on_pair(n_done)

    try:
        with without_lora(model):
            log_probabilities(model, rows, batch_size=batch_size, on_pair=on_batch, into=nats)
    finally:
        _write(folder / FILE, key, nats)
    return Reference(nats, None)


@torch.no_grad()
def log_probabilities(
    model: GPT | MixedPrecision,
    rows: Sequence[PairRows],
    *,
    batch_size: int = 16,
    on_pair: Callable[[int], None] | None = None,
    into: Float[Tensor, "n 2"] | None = None,
) -> Float[Tensor, "n 2"]:
    """Compute the log-probabilities of both answers of each pair, on the CPU, without dropout.

    Args:
        model: The model.
        rows: Ids and targets of the chosen and the rejected answer of each pair.
        batch_size: Number of pairs computed at once.
        on_pair: Called with the number of pairs done.
        into: Where to write them; batches without NaN are done already. None: a new tensor.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    nats = torch.full((len(rows), 2), math.nan) if into is None else into
    by_length = sorted(range(len(rows)), key=lambda i: max(len(ids) for ids, _ in rows[i]))
    for start in range(0, len(rows), batch_size):
        some = by_length[start : start + batch_size]
        if nats[some].isnan().any():
            ids, targets = (x.to(device) for x in pair_batch([rows[i] for i in some]))
            nats[some] = pair_log_probabilities(model, ids, targets).float().cpu()
        if on_pair is not None:
            on_pair(start + len(some))
    model.train(was_training)
    return nats


def _write(path: Path, key: Mapping[str, str], nats: Float[Tensor, "n 2"]) -> None:
    nats = nats.contiguous()
    metadata = {**key, _CHECKSUM: _sha256(nats)}
    write_bytes(path, save({_VALUES: nats}, metadata=metadata))


def _read(
    path: Path, key: Mapping[str, str], n_pairs: int, *, is_own: bool
) -> Float[Tensor, "n 2"] | None:
    """Read stored values; None where there are none, or they belong to something else."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
            nats: Tensor = file.get_tensor(_VALUES)
    except (OSError, SafetensorError) as error:
        reason = f"cannot be read ({error})"
    else:
        other = [name for name in key if found.get(name) != key[name]]
        if other:
            reason = f"are of another {' and another '.join(other)}"
        elif tuple(nats.shape) != (n_pairs, 2) or found.get(_CHECKSUM) != _sha256(nats):
            reason = "are damaged"
        else:
            return nats
    level = logging.WARNING if is_own else logging.INFO
    _log.log(level, "%s: the stored reference log-probabilities %s and are not used.", path, reason)
    return None


def _sha256(nats: Tensor) -> str:
    return hashlib.sha256(nats.numpy().tobytes()).hexdigest()
