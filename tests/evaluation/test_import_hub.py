"""Import of a model by its name on the hub, from a server on this machine."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
import torch
from foreign_models import write_foreign
from peers import peer

from groundup.base.errors import UserError
from groundup.evaluation.load import load
from groundup.weights.find_source import find_source
from groundup.weights.huggingface_folder import import_huggingface


def test_a_hub_name_without_the_package_prints_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError) as caught:
        find_source(Path("owner/name"))
    assert caught.value.command == "pip install -c constraints.txt -e '.[hub]'"


def test_a_hub_name_has_a_slash_on_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class WindowsPath(PureWindowsPath):
        def exists(self) -> bool:
            return False

    monkeypatch.setattr("groundup.weights.find_source._downloaded", lambda name, _: Path(name))
    assert find_source(WindowsPath("owner/name")) == Path("owner/name")  # type: ignore[arg-type]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, for one repository, owner/tiny, in the folder of the server."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        folder: Path = self.server.folder  # type: ignore[attr-defined]
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if path in (f"/api/models/owner/tiny/revision/{r}" for r in ("main", "v1", COMMIT)):
            names = [{"rfilename": file.name} for file in folder.iterdir()]
            self.answer(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": names}))
        elif path == f"/api/models/owner/tiny/tree/{COMMIT}":
            self.answer(
                json.dumps(
                    [
                        {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "ab" * 20}
                        for f in folder.iterdir()
                    ]
                )
            )
        elif path.startswith(f"/owner/tiny/resolve/{COMMIT}/"):
            self.answer((folder / path.rpartition("/")[2]).read_bytes())
        else:
            self.answer('{"error": "Repository not found"}', 404, "RepoNotFound")

    def answer(self, body: str | bytes, status: int = 200, code: str = "") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder = write_foreign(tmp_path / "hf")  # type: ignore[attr-defined]
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_downloaded_and_imported(tmp_path: Path, hub: Any) -> None:
    peer("huggingface_hub")
    (hub.folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (hub.folder / "pytorch_model.bin").write_bytes(b"never asked for")
    (hub.folder / "model.onnx").write_bytes(b"never asked for")
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    code = """
import sys
from groundup.cli.main import main
print(main(["import", "owner/tiny", "--out", "run", "--revision", "v1"]))
print(main(["import", "owner/absent", "--out", "none"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert "0\n" in done.stdout, done.stderr
    assert "groundup generate run" in done.stdout
    assert "the model cannot be downloaded" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not any("onnx" in path or ".bin" in path for path in hub.asked)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["source"], manifest["revision"]) == ("owner/tiny", "v1")
    assert manifest["license"] == "mit"
    assert not (tmp_path / "none").exists()
    expected = import_huggingface(hub.folder).token_embedding.weight
    assert torch.equal(load(tmp_path / "run").model.token_embedding.weight, expected)
