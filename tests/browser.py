"""Open pages in Chromium without a window, and read what their scripts made of them."""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    "--disable-dev-shm-usage",  # in a container it is small
)
_SCRIPTS = Path(__file__).parents[1] / "src" / "groundup" / "inspection" / "templates"


def browser() -> str:
    """The browser; a test without one fails in CI and is skipped elsewhere."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("There is no browser. `apt-get install chromium` installs one.")
    if found is None:
        pytest.skip("needs a browser: chromium")
    return found


def dump(page: Path, *, budget_ms: int = 3000, options: Sequence[str] = ()) -> str:
    """The document after its scripts have run."""
    command = [browser(), *_OPTIONS, f"--virtual-time-budget={budget_ms}", *options, "--dump-dom"]
    done = subprocess.run(
        [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_script(page: Path, script: str, *, width: int = 1280, **options: Any) -> Any:
    """Run a script in a page, after the page's own, and return its result.

    The script is the body of an asynchronous function. The page is shown in a frame, because no
    window of the browser is as narrow as a phone.
    """
    framed, host = (page.with_name(f"{page.stem}-{part}.html") for part in ("framed", "host"))
    framed.write_text(
        f"{page.read_text(encoding='utf-8')}<script>(async () => {{ {script} }})()"
        ".catch(error => ({ error: String(error.stack) }))"
        '.then(found => parent.postMessage(JSON.stringify(found), "*"));</script>',
        encoding="utf-8",
    )
    host.write_text(
        f'<iframe src="{framed.name}" style="width: {width}px; height: 900px"></iframe>'
        '<pre id="result"></pre><script>onmessage = event => '
        '{ document.getElementById("result").textContent = event.data; }</script>',
        encoding="utf-8",
    )
    for _ in range(3):  # on a busy machine the browser may end before the frame has loaded
        found = re.search(r'<pre id="result">(.*?)</pre>', dump(host, **options), re.DOTALL)
        assert found is not None
        if found[1]:
            return json.loads(html.unescape(found[1]))
    pytest.fail("The script did not end, or one of the page's own failed.")


def page_of_scripts(folder: Path, *names: str, data: Any) -> Path:
    """A page of some of our scripts, and `data` as a constant."""
    scripts = "".join(f"<script>{(_SCRIPTS / name).read_text('utf-8')}</script>" for name in names)
    table = json.dumps(data).replace("<", "\\u003c")
    page = folder / "scripts.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8">{scripts}<script>const data = {table};</script>',
        encoding="utf-8",
    )
    return page
