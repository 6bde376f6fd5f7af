"""Tables of `groundup serve`: the plan, and the result of a load test."""

import math

from groundup.base.errors import UserError
from groundup.cli.console import harmless, note, plural, table, warn
from groundup.serve.config import ServeConfig
from groundup.serve.load_test import LoadTest
from groundup.serve.plan import Plan


def show_plan(plan: Plan) -> None:
    """Print what the server will do."""
    first_s = plan.first_token_s()
    rows = [
        ["first token", _milliseconds(first_s), f"after a prompt of {plan.n_prompt:,} tokens"],
        ["prompts", f"{plan.n_prompt / first_s:,.0f} tokens/s", "on an idle server"],
    ]
    for n in plan.n_rows:
        speed = 1 / plan.step_s(n)
        each = f"{speed:,.1f} tokens/s each"
        rows.append([plural(n, "answer"), f"{n * speed:,.0f} tokens/s", each])
    rows += [
        [
            "memory",
            f"{plan.request_bytes / 1e6:,.1f} MB",
            f"for a prompt and an answer of {plan.n_new:,} tokens",
        ],
        ["at once", plural(plan.n_fit, "answer"), f"in {plan.cache_bytes / 1e9:,.1f} GB"],
    ]
    table("Plan", ["what", "measured", "details"], rows)


def show_load_test(result: LoadTest, plan: Plan | None = None) -> None:
    """Print how the server did."""
    predicted = "of all answers together"
    if plan is not None:
        speed = plan.total_tokens_per_s(result.n_clients, result.n_prompt, result.n_new)
        predicted += f"; the plan said {speed:,.0f}"
    rows = [
        ["requests", f"{result.n_requests:,}", f"of {plural(result.n_clients, 'client')} at once"],
        ["lost", f"{result.n_lost:,}", "no answer, or one without its end"],
        ["cut", f"{result.n_cut:,}", "fewer tokens than asked for"],
        ["changed", f"{result.n_changed:,}", "not the answer that the request has alone"],
        ["refused", f"{result.n_refused:,}", "sent again later"],
        ["speed", f"{result.tokens_per_s:,.0f} tokens/s", predicted],
        ["one client", f"{result.single_tokens_per_s:,.0f} tokens/s", "alone, before the test"],
    ]
    if not math.isnan(result.first_token_p50_s):  # an answer may have no text
        rows.append(["first token", *_times(result.first_token_p50_s, result.first_token_p95_s)])
    if not math.isnan(result.next_token_p50_s):  # an answer of one token has no next one
        rows.append(["next token", *_times(result.next_token_p50_s, result.next_token_p95_s)])
    table("Load test", ["what", "measured", "details"], rows)
    for problem in result.problems:
        warn(harmless(problem))
    if result.n_running_after:
        warn(f"The server still generates {plural(result.n_running_after, 'text')}.")
    if not (result.n_lost or result.n_cut or result.n_changed):
        note("No answer was lost, cut or changed.")


def check_load_test(result: LoadTest, config: ServeConfig) -> None:
    """Check that every client got the answer that it gets alone.

    Raises:
        UserError: An answer was lost, cut or changed.
    """
    answers = f"of {plural(result.n_requests, 'answer')}"
    if result.n_lost:
        raise UserError(f"{result.n_lost:,} {answers} were lost. The lines above say why.")
    if result.n_cut:
        raise UserError(
            f"{result.n_cut:,} {answers} were cut: timeout_s is {config.timeout_s:g}, and their "
            "time was over. A longer time, or fewer clients, is expected.",
            settings={"timeout_s": max(600, math.ceil(2 * config.timeout_s))},
        )
    if result.n_changed and config.deterministic:
        raise UserError(
            f"{result.n_changed:,} {answers} are not those of the same requests alone, although "
            "the server is deterministic. This is a bug."
        )
    if result.n_changed:
        raise UserError(
            f"{result.n_changed:,} {answers} are not those of the same requests alone: beside "
            "other requests, numbers are rounded in another way. A deterministic server keeps "
            "every answer the same; it is slower.",
            settings={"deterministic": True},
        )


def _times(p50_s: float, p95_s: float) -> list[str]:
    return [_milliseconds(p50_s), f"median; 95 % within {_milliseconds(p95_s)}"]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:,.1f} ms"
