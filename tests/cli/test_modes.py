"""What a command writes can be read by all whom the umask allows: weights, exports, tokenizers."""

import os
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_every_file_of_a_project_has_the_usual_mode(small_project: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    found = {path.suffix for path in small_project.rglob("*")}
    assert {".safetensors", ".json", ".bin", ".toml"} <= found
    for path in small_project.rglob("*"):
        most = 0o777 if path.is_dir() else 0o666
        if path.name != ".lock":  # of filelock
            assert oct(path.stat().st_mode & 0o777) == oct(most & ~before), path
