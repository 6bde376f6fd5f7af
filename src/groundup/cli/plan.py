"""`groundup plan`: the cost of a run as a table, before anything is spent."""

import shlex
from collections.abc import Set
from dataclasses import fields

from groundup.cli.console import next_command, note, span, table, typed, warn
from groundup.planning.config import PlanConfig
from groundup.planning.plan import Plan, plan
from groundup.train.config import PretrainConfig


def run(config: PlanConfig, given: Set[str] = frozenset()) -> Plan:
    """Judge a run and print what it will cost."""
    if config.budget is not None:
        note(f"Trying what {config.budget} are best spent on, here ...")
    else:
        note(f"Trying the real thing for {config.probe_s:g} seconds on this machine ...")
    result = plan(config, given)
    parts = " + ".join(f"{name} {n:,}" for name, n in result.parameters.items() if n)
    held = " + ".join(f"{name} {_megabytes(n)}" for name, n in result.memory_bytes.items())
    rows = [
        ["parameters", f"{result.n_parameters:,}", parts],
        [
            "text",
            f"{result.n_train_tokens:,} tokens",
            f"each is learnt from {result.n_passes:.1f} times in {result.steps:,} steps",
        ],
        ["memory", _megabytes(result.total_memory_bytes), held],
        ["free memory", _megabytes(result.free_memory_bytes), "with what is held already"],
        ["disk", _megabytes(result.disk_bytes), f"{_megabytes(result.free_disk_bytes)} are free"],
        [
            "arithmetic",
            f"{result.flops_per_step / 1e9:,.1f} GFLOP",
            f"a step; {result.flops_per_s / 1e9:,.0f} GFLOP/s measured here",
        ],
        [
            "time",
            span(result.total_s),
            f"{result.step_s * 1000:,.0f} ms a step, {result.validation_s:.1f} s a validation"
            + (f", {span(result.compile_s)} to compile" if result.compile_s else ""),
        ],
        [
            "first loss",
            f"{result.first_loss_nats:.2f} nats",
            "ln V: an untrained model holds every token for equally likely",
        ],
        [
            "last loss",
            "{:.2f} to {:.2f} nats".format(*result.last_loss_nats),
            "on held-out text, roughly: by size, length and the text's pairs of tokens",
        ],
    ]
    table("What this run will cost", ["", "", "of which"], rows)
    for warning in result.warnings:
        warn(warning)
    words = _for_pretrain(typed[1:]) or [str(config.data)]
    if config.train_time is not None:
        words += ["--steps", str(result.steps)]
    next_command(shlex.join(["groundup", "pretrain", *words]))
    return result


def _for_pretrain(words: list[str]) -> list[str]:
    """The settings typed, without those that only `plan` knows."""
    own = {field.name for field in fields(PlanConfig)} - {f.name for f in fields(PretrainConfig)}
    kept, rest = [], iter(words)
    for word in rest:
        name, joined, _ = word.partition("=")
        if name.removeprefix("--").replace("-", "_") not in own:
            kept.append(word)
        elif not joined:
            next(rest)  # its value
    return kept


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
