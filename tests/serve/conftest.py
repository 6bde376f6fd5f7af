"""A server with a tiny model for the tests of a file.

It does not outlive them: other tests replace the clock, by which an event loop would sleep on.
"""

from collections.abc import Iterator

import pytest
from tiny_server import chat_run, serving

from groundup.serve.serve import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(chat_run(tmp_path_factory.mktemp("runs") / "tiny")) as server:
        yield server
