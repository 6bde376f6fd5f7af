"""A server of the page alone, in a thread, for tests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from decoder_models import lively

from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import text_engine
from groundup.model.config import GPTConfig
from groundup.serve.app import make_app
from groundup.serve.security import Access
from groundup.serve.served_model import ServedModel
from groundup.serve.worker import Worker
from groundup.tokenizer.train_bpe import train_bpe

SIZES: dict[str, Any] = {
    "context_length": 96,
    "d_model": 24,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "sliding_window": 24,
    "sliding_layers": (1,),
}


def small_served(folder: Path, *, can_chat: bool, name: str = "small") -> ServedModel:
    """A model with large random weights, as an assistant or as a base model."""
    tokenizer = train_bpe(["the cat sat on the mat and the dog sat on the log " * 9], 300)
    model = lively(GPTConfig(vocab_size=tokenizer.vocab_size, **SIZES))
    language_model = LanguageModel(model, tokenizer, folder, is_assistant=can_chat)
    engine = text_engine(language_model)
    return ServedModel(name=name, model=language_model, worker=Worker(engine))


@contextmanager
def serving(served: ServedModel, access: Access | None = None) -> Iterator[str]:
    app = make_app(served, access)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    served.worker.start()
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        served.worker.stop(0)
