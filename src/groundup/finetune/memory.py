"""Memory and disk space of a fine-tuning run, estimated before its first step."""

import logging

from groundup.base.device import choose_dtype
from groundup.base.errors import UserError
from groundup.base.machine import free_disk_bytes, memory_in_use_bytes, usable_memory_bytes
from groundup.base.run import RunFolder
from groundup.finetune.job import FineTuning
from groundup.model.count import memory_bytes
from groundup.model.gpt import GPT
from groundup.train.checkpoint import trained_parameters

_log = logging.getLogger(__name__)
_SURE_BY = 1.3
"""A run that is estimated to take this many times the free memory is refused at the start."""
_N_BATCHES = 50
"""The largest of the first batches is taken for the largest of all."""


def checkpoint_bytes(job: FineTuning) -> int:
    """Bytes of one checkpoint: the trained weights and the state of their optimizer."""
    trained = trained_parameters(job.model).values()
    n_matrices = sum(p.numel() for p in trained if p.ndim >= 2)
    n_others = sum(p.numel() for p in trained if p.ndim < 2)
    weights = sum(p.numel() * p.element_size() for p in trained)
    return weights + 4 * job.optimizer.config.n_values(n_matrices, n_others)


def check_disk(job: FineTuning, run: RunFolder) -> None:
    """Check that a checkpoint fits on the disk; log a warning if later ones may not.

    Raises:
        UserError: A checkpoint does not fit.
    """
    size, free = checkpoint_bytes(job), free_disk_bytes(run.path)
    if size > free:
        raise UserError(
            f"A checkpoint takes {size / 1e6:,.1f} MB of disk and {free / 1e6:,.1f} MB are free. "
            "A folder on another disk is expected.",
            where=run.path,
        )
    whole = size * (job.config.keep_checkpoints + 2)
    if whole > free:
        _log.warning(
            "The run may take %.1f MB of disk, and %.1f MB are free.", whole / 1e6, free / 1e6
        )


def count_memory(
    job: FineTuning, n_rows: int, row_tokens: int, *, activation_checkpointing: bool
) -> int:
    """Estimate the bytes in use at the peak of a step, with what is in memory already.

    Args:
        job: The model is in memory; gradients and optimizer state are not yet.
        n_rows: Sequences that are computed at once.
        row_tokens: Tokens of the longest sequence.
        activation_checkpointing: As in the config.
    """
    device = job.optimizer.watched.device
    dtype = choose_dtype(job.config.dtype, device)
    trained = sum(p.numel() for p in trained_parameters(job.model).values())
    total = memory_in_use_bytes(device) + 4 * trained + checkpoint_bytes(job)
    if device.type == "cpu":
        total += checkpoint_bytes(job)  # the copy that is being written
    if dtype.itemsize < 4:
        total += sum(2 * p.numel() for p in job.model.parameters() if p.element_size() > 2)
    for module in job.model.modules():
        if isinstance(module, GPT):
            first = _first_stored(module)
            step = memory_bytes(
                module.config.with_layers(module.config.n_layers - first, first),
                n_rows,
                context_length=row_tokens,
                activation_bytes=dtype.itemsize,
                activation_checkpointing=activation_checkpointing,
                on_cpu=device.type == "cpu",
            )
            total += step.activations_bytes + step.logits_bytes * job.computes_logits
    return total


def _first_stored(model: GPT) -> int:
    """Return the first layer whose activations are stored: nothing below it is trained."""
    is_trained = [any(p.requires_grad for p in block.parameters()) for block in model.blocks]
    if model.token_embedding.weight.requires_grad or True not in is_trained:
        return 0
    return is_trained.index(True)


def _shape_of(job: FineTuning, k: int) -> tuple[int, int, int]:
    """Return rows, sequences and tokens per sequence of batch k. A row may hold several sequences.

    The documents of a packed row do not attend to each other, so the row counts as several.
    """
    first = job.batches.batch(k)[0]  # ids (B, T), ids of pairs (B, 2, T), or states (B, T, C)
    rows = len(first)
    if first.is_floating_point() or first.ndim < 2:
        return rows, rows, first.shape[1] if first.ndim > 2 else 1
    width = first.shape[-1]
    longest = [m.config.context_length for m in job.model.modules() if isinstance(m, GPT)]
    parts = -(-width // min(longest, default=width))
    return rows, first.numel() // width * parts, -(-width // parts)


def check_memory(job: FineTuning) -> None:
    """Refuse a run whose batches do not fit in memory, and name settings that fit.

    Raises:
        UserError: It does not fit.
    """
    if job.before_step is not None:
        return  # its batches do not exist yet
    shapes = [_shape_of(job, k) for k in range(min(job.n_steps, _N_BATCHES))]
    rows, n_sequences, width = max(shapes, key=lambda shape: shape[1] * shape[2])
    free = _SURE_BY * usable_memory_bytes(job.optimizer.watched.device)

    def needed(parts: int, checkpointing: bool) -> int:
        at_once = -(-rows // parts) * n_sequences // rows
        return count_memory(job, at_once, width, activation_checkpointing=checkpointing)

    config = job.config
    parts, checkpointing = config.grad_accumulation_steps, config.activation_checkpointing
    total = needed(parts, checkpointing)
    if total <= free:
        return
    found = (
        f"One step takes about {total / 1e9:,.1f} GB of memory and {free / _SURE_BY / 1e9:,.1f} GB "
        "are free."
    )
    for again in dict.fromkeys((checkpointing, True)):
        split = parts
        while split < rows:
            split = min(2 * split, rows)
            if needed(split, again) <= free:
                changes: dict[str, object] = {"grad_accumulation_steps": split}
                if again != checkpointing:
                    changes["activation_checkpointing"] = True
                raise UserError(f"{found} Smaller parts of a batch fit.", settings=changes)
    raise UserError(f"{found} Shorter texts, a smaller model or more memory is needed.")
