"""Memory and disk space of a run, estimated from its settings before anything is built."""

import json
import logging
from dataclasses import replace
from functools import partial

from groundup.base.device import choose_device, choose_dtype
from groundup.base.errors import UserError
from groundup.base.fields import leaves, setting
from groundup.base.files import sha256_bytes
from groundup.base.kinds import Mark
from groundup.base.machine import free_disk_bytes, memory_in_use_bytes
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters, memory_bytes, parameters_by_part
from groundup.train.build import validation_rows
from groundup.train.config import PretrainConfig
from groundup.train.distributed import n_processes

_log = logging.getLogger(__name__)
_METRICS_LINE_BYTES = 320
_LIBRARY_BYTES = 160_000_000
"""What libraries allocate during a run: buffers of matrix products, drawing curves. Measured."""
_COMPILER_BYTES = 90_000_000
"""What `torch.compile` keeps allocated in the process. Measured."""
_TOKEN_BYTES = 16
"""Input and target of a position."""
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
    kinds = config.model.kinds
    model = replace(config.model, dropout=0.0)  # as in a validation
    single = [model.with_layers(1, kinds.index(kind)) for kind in sorted(set(kinds))]
    parts = parameters_by_part(config.model)
    n_parameters, n_matrices = sum(parts.values()), parts["attention"] + parts["mlp"]
    n_values = config.optimizer.n_values(n_matrices, n_parameters - n_matrices)
    on_cpu, is_compiled = device.type == "cpu", hardware.compile == "on"
    count = partial(
        memory_bytes,
        activation_bytes=dtype.itemsize,
        on_cpu=on_cpu,
        context_length=hardware.segment,
        in_segments=hardware.segment is not None,
    )
    memory = count(
        config.model,
        rows,
        compiled=is_compiled,
        optimizer_values_per_weight=n_values / n_parameters,
        activation_checkpointing=hardware.activation_checkpointing,
    )
    rounded = {"bf16 weights": n_parameters * 2} if dtype.itemsize == 2 else {}
    kept, temporary = (rounded, {}) if on_cpu else ({}, rounded)
    if n_shards > 1:  # each block gathers its weights as it runs; the others stay gathered
        gathered = max(count_parameters(layer) for layer in single)
        shard = n_parameters // n_shards if dtype.itemsize == 2 else 0
        kept, temporary = {}, {"gathered weights": (gathered + shard) * dtype.itemsize}
    if hardware.segment is not None:  # by the segments of a step, from the first to the last
        kept["states"] = rows * states_bytes(config.model, hardware.segment, dtype.itemsize)
        kept["tokens"] = rows * config.model.context_length * _TOKEN_BYTES
    step = {"activations": memory.activations_bytes, "logits": memory.logits_bytes} | temporary
    muon = {"Muon workspace": n_matrices * 4 * 2} if config.optimizer.name == "muon" else {}
    # Without gradients, one layer at a time has its activations.
    layers = [count(layer, validation_rows(config)) for layer in single]
    one_layer = max(layer.activations_bytes + layer.logits_bytes for layer in layers)
    validation = {"validation": one_layer} | temporary
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


def states_bytes(config: GPTConfig, segment: int, activation_bytes: int) -> int:
    """Bytes of what the segments of one window keep for the backward pass.

    A layer `w` keeps its last keys and values before each segment, and `d` its matrices and the
    last inputs of its convolution. A layer `g` keeps the keys and values of the whole window once,
    and their gradients in float32.
    """
    T, H, D = config.context_length, config.n_heads, config.head_width
    keys_values, n_states = 2 * config.kv_heads * D, -(-T // segment) - 1
    total = 0
    for layer in range(config.n_layers):
        kind, window = config.kind_of(layer), config.window_of(layer)
        if kind == "g":
            total += T * keys_values * (activation_bytes + 4)
        elif kind == "d":
            total += n_states * (H * D * D * 4 + 3 * 3 * H * D * activation_bytes)
        else:
            assert window is not None
            total += n_states * min(T, window - 1) * keys_values * activation_bytes
    return total


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
