"""One server with a tiny model for the tests of this folder."""

from collections.abc import Iterator

import pytest
from tiny_server import chat_run, serving

from groundup.serve.serve import Server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(chat_run(tmp_path_factory.mktemp("runs") / "tiny")) as server:
        yield server
