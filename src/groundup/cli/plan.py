"""`groundup plan`: the predicted cost of a run as a table."""

from collections.abc import Set
from dataclasses import fields

from groundup.base.duration import span
from groundup.base.errors import joined
from groundup.cli.console import next_command, note, retyped, style, table, typed, warn
from groundup.cli.layer_costs import megabytes, print_layer_costs
from groundup.planning.config import PlanConfig
from groundup.planning.plan import Plan, plan
from groundup.train.config import PretrainConfig


def run(config: PlanConfig, given: Set[str] = frozenset()) -> Plan:
    """Plan a run and print what it will cost."""
    print_layer_costs(config)
    if config.budget is not None:
        note(f"Choosing a model for {config.budget} on this machine ...")
    else:
        note(f"Measuring training steps on this machine for {config.probe_s:g} seconds ...")
    result = plan(config, given)
    parts = " + ".join(f"{name} {n:,}" for name, n in result.parameters.items() if n)
    held = " + ".join(f"{name} {megabytes(n)}" for name, n in result.memory_bytes.items())
    epochs = ", ".join(f"{n:.1f} epochs of {folder}" for folder, n in result.passes.items())
    rows = [
        ["parameters", f"{result.n_parameters:,}", parts],
        [
            "text",
            f"{result.n_train_tokens:,} tokens",
            f"{epochs} in {result.steps:,} steps; {result.n_targets:,} targets",
        ],
        ["memory", megabytes(result.total_memory_bytes), held],
        ["free memory", megabytes(result.free_memory_bytes), "including this process"],
        ["disk", megabytes(result.disk_bytes), f"{megabytes(result.free_disk_bytes)} free"],
        [
            "compute",
            f"{result.flops_per_step / 1e9:,.1f} GFLOP",
            f"per step; {result.flops_per_s / 1e9:,.0f} GFLOP/s measured",
        ],
        [
            "time",
            span(result.total_s),
            f"{result.step_s * 1000:,.0f} ms per step, {result.validation_s:.1f} s per validation"
            + (f", {span(result.compile_s)} to compile" if result.compile_s else ""),
        ],
        ["compilation", *result.compilation.split(". ", 1)],
        ["initial loss", f"{result.first_loss_nats:.2f} nats", "ln V, of a uniform prediction"],
        [
            "final loss",
            "{:.2f} to {:.2f} nats".format(*result.last_loss_nats),
            "on the validation set, estimated from size, steps and bigram statistics",
        ],
    ]
    if style.is_brief:
        rows = [row for row in rows if row[0] not in ("memory", "free memory", "disk", "compute")]
    table("Estimated cost of this run", ["quantity", "estimate", "details"], rows)
    for warning in result.warnings:
        warn(warning)
    words = ["pretrain", *(_for_pretrain(typed[1:]) or [str(config.first_data)])]
    if config.train_time is not None:
        words = retyped(words, ["--steps", str(result.steps)])
    next_command(joined(["groundup", *words]))
    return result


def _for_pretrain(words: list[str]) -> list[str]:
    """Drop the options that only `plan` has."""
    own = {field.name for field in fields(PlanConfig)} - {f.name for f in fields(PretrainConfig)}
    kept, rest = [], iter(words)
    for word in rest:
        name, joined, _ = word.partition("=")
        if name.removeprefix("--").replace("-", "_") not in own:
            kept.append(word)
        elif not joined:
            next(rest)  # its value
    return kept
