"""Metrics, as the parser of prometheus-client reads them."""

import asyncio

from decoder_models import CONFIGS, lively
from prometheus_client.parser import text_string_to_metric_families

from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine
from groundup.generation.request import Request
from groundup.serve.metrics import metrics_text
from groundup.serve.worker import Worker


def test_metrics_count_requests_and_tokens() -> None:
    async def main() -> None:
        async for _ in worker.generate(Request(ids=[1, 2, 3], max_new_tokens=5, n=2)):
            pass

    worker = Worker(Engine(Decoder(lively(CONFIGS["ours"]))))
    worker.start()
    asyncio.run(main())
    families = list(text_string_to_metric_families(metrics_text(worker).decode()))
    worker.stop(0)
    values = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in families
        for sample in family.samples
    }
    assert values["groundup_requests_total", None] == 1
    assert values["groundup_prompt_tokens_total", None] == 3
    assert values["groundup_new_tokens_total", None] == 10
    assert values["groundup_running_texts", None] == 0
    assert values["groundup_healthy", None] == 1
    assert values["groundup_first_token_seconds_bucket", "+Inf"] == 2
    assert values["groundup_next_token_seconds_count", None] == 8
    assert values["groundup_steps_total", None] == 5
    assert all(family.documentation for family in families)
