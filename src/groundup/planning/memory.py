"""What a run takes beside time, counted from its settings: main memory or the GPU's, and disk."""

import json
from dataclasses import replace
from functools import partial

from groundup.base.config import to_mapping
from groundup.base.device import choose_device, choose_dtype
from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.base.machine import memory_in_use_bytes, usable_memory_bytes
from groundup.model.count import memory_bytes, parameters_by_part
from groundup.train.build import validation_rows
from groundup.train.config import PretrainConfig
from groundup.train.distributed import n_processes

_METRICS_LINE_BYTES = 320
_LATER_BYTES = 160_000_000
"""What libraries take once they work: buffers of the products, the curves' drawing; as measured."""
_COMPILER_BYTES = 90_000_000
"""What `torch.compile` leaves in the process; as measured."""
_REUSE_FRAC = 0.2
"""What training keeps of freed memory that no tensor fits in, as a share of what passes."""
_DECIDE = (
    "steps",
    "budget",
    "batch_size",
    "n_micro_batches",
    "recompute",
    "optimizer",
    "muon_iterations",
    "validate_every",
    "validation_windows",
    "checkpoint_every",
    "device",
    "dtype",
    "compile",
    "threads",
    "parallel",
)
"""Settings that decide, beside the model, what a run costs."""


def count_memory(config: PretrainConfig) -> dict[str, int]:
    """Bytes at the fullest moment of a run, by part; the sum is the peak.

    `program` is what Python, torch and their libraries hold, once they work. What passes in a
    step, in Muon's work and in a look at the held-out text is never there together, so the largest
    of the three counts.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    rows = -(-config.batch_size // (config.n_micro_batches * n_processes()))
    n_parts = n_processes() if config.parallel == "fsdp" else 1
    parts = parameters_by_part(config.model)
    n_parameters, n_matrices = sum(parts.values()), parts["attention"] + parts["mlp"]
    by_muon = config.optimizer == "muon"
    count = partial(memory_bytes, activation_bytes=dtype.itemsize, on_cpu=device.type == "cpu")
    memory = count(
        config.model,
        rows,
        # AdamW keeps two averages of each number, Muon one momentum.
        optimizer_values_per_weight=2.0 - by_muon * n_matrices / n_parameters,
        recompute=config.recompute,
    )
    rounded = {"rounded weights": n_parameters * 2} if dtype.itemsize == 2 else {}
    step = {"activations": memory.activations_bytes, "logits": memory.logits_bytes} | rounded
    muon = {"muon's work": n_matrices * 4 * 2} if by_muon else {}
    look = count(replace(config.model, n_layers=1), validation_rows(config))  # a layer at a time
    validation = {"validation": look.activations_bytes + look.logits_bytes} | rounded
    later = _LATER_BYTES + _COMPILER_BYTES * config.compile if device.type == "cpu" else 0
    held = {
        "program": memory_in_use_bytes(device) + later,
        "weights": memory.weights_bytes // n_parts,
        "gradients": memory.gradients_bytes // n_parts,
        "optimizer": memory.optimizer_bytes // n_parts,
    }
    most = max(step, muon, validation, key=lambda part: sum(part.values()))
    if device.type == "cpu":
        held["checkpoint copy"] = held["weights"] + held["optimizer"]
        most["gaps"] = int(_REUSE_FRAC * sum(most.values()))
    return held | most


def check_memory(config: PretrainConfig, *, sure_by: float = 1.0) -> None:
    """Refuse what does not fit, and name what does; first what changes nothing else in the result.

    Args:
        config: The settings, with the vocabulary of their data.
        sure_by: How many times what is free the count must be; it is good to a fifth.

    Raises:
        UserError: It does not fit.
    """
    total, device = sum(count_memory(config).values()), choose_device(config.device)
    free = usable_memory_bytes(device)  # what the program holds already is counted, too
    if total <= sure_by * free:
        return
    way_out = _way_out(config, free)
    raise UserError(
        f"one step takes about {total / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free",
        need="a step that fits"
        if way_out
        else "more memory, or a shorter context or smaller vocabulary, for no batch or shape fits",
        where="the model and the batch",
        type_this=way_out or "",
    )


def settings_sha256(config: PretrainConfig) -> str:
    """A checksum of all that decides what a run costs, to find the plan that was made for it."""
    values = {name: getattr(config, name) for name in _DECIDE}
    text = json.dumps(values | {"model": to_mapping(config.model)}, sort_keys=True)
    return sha256_bytes(text.encode("utf-8"))


def count_disk(config: PretrainConfig) -> int:
    """Bytes of the run folder at its fullest: the kept checkpoints, the best, and one under way."""
    n_checkpoints = config.keep_checkpoints + 2
    return n_checkpoints * checkpoint_bytes(config) + config.steps * _METRICS_LINE_BYTES


def checkpoint_bytes(config: PretrainConfig) -> int:
    """Bytes of one checkpoint: weights, and what the optimiser remembers of each."""
    parts = parameters_by_part(config.model)
    n_parameters = sum(parts.values())
    n_single = parts["attention"] + parts["mlp"] if config.optimizer == "muon" else 0
    return 4 * (3 * n_parameters - n_single)


def _way_out(config: PretrainConfig, free: int) -> str | None:
    """Options that make it fit; None: cutting the batch, the depth and the width does not help."""

    def fits(smaller: PretrainConfig) -> bool:
        return sum(count_memory(smaller).values()) <= free

    parts = config.n_micro_batches
    for recompute in (False, True):
        parts = config.n_micro_batches
        while parts < config.batch_size:
            parts = min(2 * parts, config.batch_size)
            if fits(replace(config, n_micro_batches=parts, recompute=recompute)):
                return f"--n-micro-batches {parts}" + " --recompute" * recompute
    config = replace(config, n_micro_batches=parts, recompute=True)
    model = config.model
    while model.d_model >= 16:
        # Half the width with half the heads keeps the heads' width, until one is left.
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
        if fits(replace(config, model=model)):
            shape = f"--n-layers {model.n_layers} --d-model {model.d_model}"
            shape += f" --n-heads {model.n_heads}"
            for name in ("n_kv_heads", "d_ff"):  # these went with the shape
                if getattr(config.model, name) is not None:
                    shape += f" --{name.replace('_', '-')} off"
            return f"{shape} --n-micro-batches {parts} --recompute"
    return None
