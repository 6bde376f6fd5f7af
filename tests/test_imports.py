"""The public names, as an editor and a type checker see them."""

import subprocess
import sys
from pathlib import Path

import groundup

ROOT = Path(__file__).parents[1]
PUBLIC: list[str] = groundup.__all__  # type: ignore[attr-defined]


def test_import_groundup_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, groundup; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_rooms_do_not_hide_functions() -> None:
    import groundup.evaluation.evaluate
    import groundup.evaluation.export
    import groundup.generation.engine
    import groundup.inspection.explain

    assert callable(groundup.evaluate)
    assert callable(groundup.generate)
    assert callable(groundup.explain)
    assert callable(groundup.export)


def test_mypy_sees_every_public_name(tmp_path) -> None:
    """A user's script that imports all names; none may be unknown to the type checker."""
    lines = [f"from groundup import {name}\nreveal_type({name})" for name in PUBLIC]
    script = tmp_path / "script.py"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,  # with the settings and the cache of `make test`, which has just filled it
        timeout=250,
    )
    revealed = [line for line in done.stdout.splitlines() if "Revealed type is" in line]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(revealed) == len(PUBLIC)
    assert not [line for line in revealed if '"Any"' in line or "Module(" in line]
