"""Train only the last blocks: what the blocks below them compute is computed once and kept.

The states that enter the trained blocks never change. An epoch therefore costs only the last
blocks, forward and backward.
"""

import copy
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.base.machine import usable_memory_bytes
from groundup.base.results import written_if_possible
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import Row, RowBatches
from groundup.finetune.classify.fixed_shapes import OnTokens, run_texts
from groundup.model.gpt import GPT, Block
from groundup.model.recompute import recomputed

_log = logging.getLogger(__name__)


def lower_part(gpt: GPT, n_blocks: int) -> GPT:
    """View the embeddings and the first blocks of a model as a model; the weights are shared."""
    part = copy.copy(gpt)
    part._modules = dict(gpt._modules)
    part.blocks = gpt.blocks[:n_blocks]
    part.final_norm = nn.Identity()
    return part


def upper_states(gpt: GPT, x: Float[Tensor, "B T C"], n_blocks: int) -> Float[Tensor, "B T C"]:
    """Compute the final hidden states from those that enter the last `n_blocks` blocks."""
    rotary = gpt.rotary_tables(x)
    checkpointing = gpt.activation_checkpointing and torch.is_grad_enabled()
    for block in gpt.blocks[len(gpt.blocks) - n_blocks :]:
        assert isinstance(block, Block)
        compute = partial(recomputed, block) if checkpointing else block
        x = compute(x, rotary[block.kind])
    normed: Tensor = gpt.final_norm(x)  # (B, T, C)
    return normed


def entering_states(
    gpt: GPT,
    rows: Sequence[Sequence[int]],
    n_blocks: int,
    *,
    dtype: torch.dtype,
    file: Path,
    on_tokens: OnTokens | None = None,
) -> list[Float[Tensor, "T C"]]:
    """Compute the states that enter the last blocks, or read them.

    One file of them is kept in a folder: the next one replaces it.

    Args:
        gpt: The model, in evaluation mode.
        rows: The token ids of each text.
        n_blocks: Number of blocks that are trained.
        dtype: Format of the matrix products, and of the states that are kept.
        file: Where they are kept; its name has a hash of the model, the texts and the settings.
        on_tokens: Called after each batch.

    Raises:
        UserError: They do not fit in memory.
    """
    lengths = [len(ids) for ids in rows]
    _check_memory(states_bytes(gpt, rows, dtype))
    if file.is_file():
        try:
            kept = load_file(file)["states"]
            if len(kept) == sum(lengths):
                return list(torch.split(kept, lengths))
        except Exception as error:  # the file is only a copy of what can be computed again
            _log.warning("%s cannot be read (%s) and is computed again", file, error)
    joined = torch.empty(sum(lengths), gpt.config.d_model, dtype=dtype)
    states = list(torch.split(joined, lengths))

    def take(numbers: list[int], hidden: Float[Tensor, "B T C"], lengths: Tensor) -> None:
        for row, number in enumerate(numbers):
            states[number].copy_(hidden[row, : len(rows[number])])

    part = lower_part(gpt, gpt.config.n_layers - n_blocks)
    limit = gpt.config.context_length
    run_texts(
        part.hidden, rows, take, device=gpt.device, dtype=dtype, limit=limit, on_tokens=on_tokens
    )

    def write() -> None:
        with atomic_path(file) as temporary:
            save_file({"states": joined}, temporary)
        for other in file.parent.glob("blocks-*.safetensors"):
            if other != file:
                other.unlink()

    written_if_possible(write)
    return states


def states_bytes(gpt: GPT, rows: Sequence[Sequence[int]], dtype: torch.dtype) -> int:
    """The size of the states that enter a block, in memory and on the disk."""
    return sum(map(len, rows)) * gpt.config.d_model * dtype.itemsize


def _check_memory(n_bytes: int) -> None:
    free = usable_memory_bytes(torch.device("cpu"))
    if n_bytes > free:
        raise UserError(
            f"The hidden states that enter the trained blocks take {n_bytes / 1e9:,.1f} GB of "
            f"memory, and {free / 1e9:,.1f} GB are free. Another method keeps none.",
            settings={"method": "lora"},
        )


class StateBatches:
    """Batches of states in place of token ids, in the order of `RowBatches`.

    Args:
        states: The states of each text.
        rows: Ids and targets of each text.
        batch_size: Number of texts per batch.
        seed: Random seed of the order.
    """

    def __init__(
        self, states: Sequence[Tensor], rows: Sequence[Row], batch_size: int, *, seed: int
    ) -> None:
        self.states = states
        # The first id of each row is replaced by its number: it says which states to take.
        numbered = [([number, *ids[1:]], targets) for number, (ids, targets) in enumerate(rows)]
        self._batches = RowBatches(numbered, batch_size, seed=seed, sort_by_length=True)

    def batch(self, k: int) -> tuple[Float[Tensor, "B T C"], Int[Tensor, "B T"]]:
        """Return the states and the targets of batch k."""
        ids, targets = self._batches.batch(k)[:2]
        chosen = [self.states[number] for number in ids[:, 0].tolist()]
        padded = nn.utils.rnn.pad_sequence(chosen, batch_first=True)  # (B, T, C)
        assert padded.shape[1] == targets.shape[1]
        assert bool((targets != IGNORE_INDEX).any())
        return padded, targets
