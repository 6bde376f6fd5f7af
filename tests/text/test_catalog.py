"""Named texts: downloaded from a local server, checked, and never left incomplete."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.text.catalog import CATALOG, PublicText, fetch

STORY = b"Once upon a time. " * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "story.txt").write_bytes(STORY)
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as it:
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{it.server_port}"
        it.shutdown()


def story(url: str) -> PublicText:
    return PublicText(
        name="story",
        url=f"{url}/story.txt",
        license="public domain",
        n_bytes=len(STORY),
        sha256=sha256_bytes(STORY),
        about="a test",
    )


def test_a_text_is_fetched_once(server: str, tmp_path: Path) -> None:
    path = fetch(story(server), tmp_path / "texts")
    assert path.read_bytes() == STORY
    # No server of that name: the second call must not ask again.
    again = fetch(replace(story(server), url="http://127.0.0.1:9/x"), tmp_path / "texts")
    assert again == path


def test_another_text_than_promised_is_refused(server: str, tmp_path: Path) -> None:
    wrong = replace(story(server), sha256="0" * 64)
    with pytest.raises(UserError, match="SHA-256"):
        fetch(wrong, tmp_path / "texts")
    assert list((tmp_path / "texts").glob("*")) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/story.txt", "{server}/absent.txt"])
def test_offline_names_the_way_out(server: str, tmp_path: Path, url: str) -> None:
    absent = replace(story(server), url=url.format(server=server))
    with pytest.raises(UserError, match=r"groundup prepare python-reference"):
        fetch(absent, tmp_path / "texts")
    assert list((tmp_path / "texts").glob("*")) == []


def test_what_the_catalog_says_of_a_text_is_true(shared_data: Path) -> None:
    here = {"the-verdict": "the-verdict.txt", "tiny-shakespeare": "tinyshakespeare.txt"}
    for name, file in here.items():
        data = (shared_data / file).read_bytes()
        assert (CATALOG[name].n_bytes, CATALOG[name].sha256) == (len(data), sha256_bytes(data))
