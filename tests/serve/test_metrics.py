"""Metrics, as the parser of prometheus-client reads them."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from decoder_models import CONFIGS, lively
from page_server import small_served
from prometheus_client.parser import text_string_to_metric_families
from tiny_server import chat_run, serving

from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine
from groundup.generation.request import Request, Sampling
from groundup.serve.metrics import metrics_text
from groundup.serve.page_answer import Asked, PageAnswer
from groundup.serve.page_tokens import TokenNames
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


def test_a_server_that_was_just_started_has_counted_nothing(tmp_path: Path) -> None:
    with serving(chat_run(tmp_path / "tiny")) as server:
        text = metrics_text(server.served.worker).decode()
    for family in text_string_to_metric_families(text):
        if family.name != "groundup_healthy":
            assert not any(sample.value for sample in family.samples), family.name


def test_an_answer_of_the_page_that_ends_by_itself_is_not_cancelled(tmp_path: Path) -> None:
    served = small_served(tmp_path, can_chat=True)
    asked = Asked(
        prompt=[1], begun=[], max_new_tokens=90, sampling=Sampling(logit_bias={next(iter(
            served.model.stop_ids)): 1000.0}), is_reply=True, is_speech=False,
    )  # fmt: skip

    async def main() -> None:
        answer = PageAnswer(lambda: asked, served, TokenNames(served))
        async with aclosing(answer._events()) as events:
            assert [event async for event in events][-1] == {"end": "stop"}

    served.worker.start()
    asyncio.run(main())
    served.worker.stop(0)
    assert (served.worker.counts.n_requests, served.worker.counts.n_cancelled) == (1, 0)
