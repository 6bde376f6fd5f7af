"""Memory and disk space of a run, estimated from its settings before anything is built."""

import json
import logging
from dataclasses import replace
from functools import partial

from groundup.base.device import choose_device, choose_dtype
from groundup.base.errors import UserError
from groundup.base.fields import leaves, replace_settings, setting
from groundup.base.files import sha256_bytes
from groundup.base.kinds import Mark
from groundup.base.machine import free_disk_bytes, memory_in_use_bytes, usable_memory_bytes
from groundup.model.count import memory_bytes, parameters_by_part
from groundup.train.build import validation_rows
from groundup.train.config import PretrainConfig
from groundup.train.distributed import n_processes

_log = logging.getLogger(__name__)
_METRICS_LINE_BYTES = 320
_LIBRARY_BYTES = 160_000_000
"""What libraries allocate during a run: buffers of matrix products, drawing curves. Measured."""
_COMPILER_BYTES = 90_000_000
"""What `torch.compile` keeps allocated in the process. Measured."""
_OVERHEAD_FRAC = 0.2
"""Freed memory that the allocator cannot use again, as a fraction of the temporary tensors."""


def count_memory(config: PretrainConfig) -> dict[str, int]:
    """Estimate the bytes of each part at the peak of a run; the sum is the peak memory.

    The process baseline is the memory of Python, torch and their libraries. The temporary tensors
    of a step, of Muon and of a validation are never allocated together, so the largest of the three
    counts.
    """
    hardware = config.hardware
    device = choose_device(hardware.device)
    dtype = choose_dtype(hardware.dtype, device)
    rows = -(-config.batch_size // (hardware.grad_accumulation_steps * n_processes()))
    n_shards = n_processes() if hardware.parallel == "fsdp" else 1
    parts = parameters_by_part(config.model)
    n_parameters, n_matrices = sum(parts.values()), parts["attention"] + parts["mlp"]
    n_values = config.optimizer.n_values(n_matrices, n_parameters - n_matrices)
    on_cpu, is_compiled = device.type == "cpu", hardware.compile == "on"
    count = partial(memory_bytes, activation_bytes=dtype.itemsize, on_cpu=on_cpu)
    memory = count(
        config.model,
        rows,
        compiled=is_compiled,
        optimizer_values_per_weight=n_values / n_parameters,
        activation_checkpointing=hardware.activation_checkpointing,
    )
    rounded = {"bf16 weights": n_parameters * 2} if dtype.itemsize == 2 else {}
    kept, temporary = (rounded, {}) if on_cpu else ({}, rounded)
    step = {"activations": memory.activations_bytes, "logits": memory.logits_bytes} | temporary
    muon = {"Muon workspace": n_matrices * 4 * 2} if config.optimizer.name == "muon" else {}
    # Without gradients, one layer at a time has its activations.
    one_layer = count(replace(config.model, n_layers=1), validation_rows(config))
    validation = {"validation": one_layer.activations_bytes + one_layer.logits_bytes} | temporary
    libraries = _LIBRARY_BYTES + _COMPILER_BYTES * is_compiled if on_cpu else 0
    held = {
        "process baseline": memory_in_use_bytes(device) + libraries,
        "weights": memory.weights_bytes // n_shards,
        "gradients": memory.gradients_bytes // n_shards,
        "optimizer": memory.optimizer_bytes // n_shards,
        **kept,
    }
    most = max(step, muon, validation, key=lambda part: sum(part.values()))
    if on_cpu:
        held["checkpoint copy"] = held["weights"] + held["optimizer"]
        most["allocator overhead"] = int(_OVERHEAD_FRAC * sum(most.values()))
    return held | most


def check_memory(config: PretrainConfig, *, margin: float = 1.0) -> None:
    """Refuse a run that does not fit in memory, and name settings that do.

    Args:
        config: The settings, with the vocabulary of their data.
        margin: Refuse only an estimate of more than this many times the free memory. The estimate
            is within 20 %.

    Raises:
        UserError: It does not fit.
    """
    total, device = sum(count_memory(config).values()), choose_device(config.hardware.device)
    free = usable_memory_bytes(device)  # includes what this process already holds, as `total` does
    if total <= margin * free:
        return
    found = (
        f"One step takes about {total / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free."
    )
    smaller = _settings_that_fit(config, free)
    if smaller is None:
        raise UserError(
            f"{found} No smaller batch, depth or width fits. A shorter context, a smaller "
            "vocabulary or more memory is needed."
        )
    raise UserError(f"{found} Smaller settings fit.", settings=smaller)


def settings_sha256(config: PretrainConfig) -> str:
    """A checksum of all settings that change the cost of a run, to find the plan made for it."""
    values = {
        ".".join(leaf.path): setting(config, leaf)
        for leaf in leaves(type(config)).values()
        if Mark.NO_COST not in leaf.marks
    }
    return sha256_bytes(json.dumps(values, sort_keys=True).encode("utf-8"))


def count_disk(config: PretrainConfig) -> int:
    """Bytes of the run folder at its largest: the latest checkpoints, the best, one in progress."""
    n_checkpoints = config.checkpoints.keep_checkpoints + 2
    return n_checkpoints * checkpoint_bytes(config) + config.steps * _METRICS_LINE_BYTES


def check_disk(config: PretrainConfig, *, whole_run: bool) -> None:
    """Check that the checkpoints fit on the disk.

    Args:
        config: The settings, with the vocabulary size of the tokenizer.
        whole_run: Refuse what does not fit at the end. False: only warn of it, and refuse a run
            whose first checkpoint does not fit.

    Raises:
        UserError: They do not fit.
    """
    disk, free = count_disk(config), free_disk_bytes(config.out)
    if disk <= free:
        return
    if whole_run or checkpoint_bytes(config) > free:
        disk = disk if whole_run else checkpoint_bytes(config)
        what = "Checkpoints take" if whole_run else "A checkpoint takes"
        raise UserError(
            f"{what} {disk / 1e6:,.1f} MB of disk and {free / 1e6:,.1f} MB are free. Keep fewer "
            "checkpoints, or set `out` to a folder on another disk.",
            where=config.out,
            settings={"keep_checkpoints": 1} if whole_run else None,
        )
    _log.warning("The run may take %.1f MB of disk, and %.1f MB are free.", disk / 1e6, free / 1e6)


def checkpoint_bytes(config: PretrainConfig) -> int:
    """Bytes of one checkpoint: the weights and the state of the optimizer."""
    parts = parameters_by_part(config.model)
    n_parameters, n_matrices = sum(parts.values()), parts["attention"] + parts["mlp"]
    return 4 * (n_parameters + config.optimizer.n_values(n_matrices, n_parameters - n_matrices))


def _settings_that_fit(config: PretrainConfig, free: int) -> dict[str, object] | None:
    """Settings to change so that it fits, first those that do not change the result.

    None: splitting the batch and halving depth and width does not help.
    """

    def fits(changes: dict[str, object]) -> bool:
        return sum(count_memory(replace_settings(config, **changes)).values()) <= free

    changes: dict[str, object] = {}
    for checkpointing in ({}, {"activation_checkpointing": True}):
        parts = config.hardware.grad_accumulation_steps
        while parts < config.batch_size:
            parts = min(2 * parts, config.batch_size)
            changes = {"grad_accumulation_steps": parts, **checkpointing}
            if fits(changes):
                return changes
    changes = {
        "grad_accumulation_steps": config.batch_size,
        "activation_checkpointing": True,
    }
    model = config.model
    while model.d_model >= 16:
        # Half the width with half the heads keeps the width of a head, until one head is left.
        heads = max(1, model.n_heads // 2)
        d_head = model.d_model // model.n_heads if model.n_heads > 1 else model.d_model // 4 * 2
        model = replace(
            model,
            n_layers=max(1, model.n_layers // 2),
            d_model=d_head * heads,
            n_heads=heads,
            n_kv_heads=None,
            d_ff=None,
        )
        shape = {"n_layers": model.n_layers, "d_model": model.d_model, "n_heads": model.n_heads}
        # These fitted the old shape only.
        derived = {"n_kv_heads": config.model.n_kv_heads, "d_ff": config.model.d_ff}
        reset = {name: None for name, value in derived.items() if value is not None}
        if fits({**shape, **reset, **changes}):
            return {**shape, **reset, **changes}
    return None
