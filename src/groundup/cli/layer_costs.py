"""The table of `groundup plan` for long windows: what each kind of layer costs."""

from groundup.base.duration import span
from groundup.cli.console import note, table
from groundup.planning.fitting import LONG
from groundup.planning.layer_kinds import LayerCost, compare_layers
from groundup.train.config import PretrainConfig


def print_layer_costs(config: PretrainConfig) -> tuple[LayerCost, ...]:
    """Print memory and time of a step with each kind of layer, where windows are long."""
    T = config.model.context_length
    if config.budget is not None or T < LONG:
        return ()
    note(f"Measuring each kind of layer for windows of {T:,} tokens ...")
    costs = compare_layers(config)
    table(
        f"One step of {config.batch_size} x {T:,} tokens",
        ["layers", "at once", "time", "segment", "memory", "time", "fits here"],
        [
            [
                cost.name,
                _gigabytes(cost.memory_bytes),
                span(cost.step_s),
                "" if cost.segment is None else f"{cost.segment:,}",
                _gigabytes(cost.segment_memory_bytes),
                "" if cost.segment_step_s is None else span(cost.segment_step_s),
                _fits(cost),
            ]
            for cost in costs
        ],
    )
    return costs


def _fits(cost: LayerCost) -> str:
    if cost.fits:
        return "yes"
    return "in segments" if cost.fits_in_segments else "no"


def _gigabytes(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f"{n_bytes / 1e9:,.{n_bytes < 1e11:d}f} GB"


def megabytes(n_bytes: int) -> str:
    """Write a size in megabytes."""
    return f"{n_bytes / 1e6:,.0f} MB"
