"""The counts of a worker in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from groundup.serve.counts import Counts, Histogram
from groundup.serve.worker import Worker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(worker: Worker) -> bytes:
    """Return what `/metrics` answers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counted(worker.counts, is_healthy=worker.is_healthy))
    return generate_latest(registry)


class _Counted(Collector):
    """Metrics of counts that others keep."""

    def __init__(self, counts: Counts, *, is_healthy: bool) -> None:
        self._counts, self._is_healthy = counts, is_healthy

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        yield _gauge("healthy", "1 while requests are taken.", int(self._is_healthy))
        yield _gauge("running_texts", "Texts that are being generated.", counts.n_running)
        yield _gauge("waiting_texts", "Texts that wait for room.", counts.n_waiting)
        yield _gauge("cache_bytes", "Memory of keys and values.", counts.cache_bytes)
        yield _counter("requests", "Requests that were taken.", counts.n_requests)
        yield _counter("refused_requests", "Requests refused while busy.", counts.n_refused)
        yield _counter("cancelled_requests", "Requests whose client left.", counts.n_cancelled)
        yield _counter("late_requests", "Requests whose time was over.", counts.n_late)
        yield _counter("failed_texts", "Texts that ended with an error.", counts.n_failed)
        yield _counter("steps", "Steps of the engine.", counts.n_steps)
        yield _counter("busy_seconds", "Time in steps of the engine.", counts.busy_s)
        yield _counter("prompt_tokens", "Tokens of prompts.", counts.n_prompt_tokens)
        yield _counter("new_tokens", "Tokens that were generated.", counts.n_new_tokens)
        yield _histogram(
            "first_token_seconds", "From a request to its first token.", counts.first_token_s
        )
        yield _histogram("next_token_seconds", "From a token to the next.", counts.next_token_s)


def _gauge(name: str, help_text: str, value: float | int) -> Metric:
    return GaugeMetricFamily(f"groundup_{name}", help_text, value=value)


def _counter(name: str, help_text: str, value: float | int) -> Metric:
    return CounterMetricFamily(f"groundup_{name}", help_text, value=value)


def _histogram(name: str, help_text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, histogram.cumulative, strict=True))
    return HistogramMetricFamily(
        f"groundup_{name}", help_text, buckets=buckets, sum_value=histogram.total
    )
