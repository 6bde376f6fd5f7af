"""The page of the sliding window, and what a notebook shows: whole, escaped, without a network."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import dump, run_script

from groundup.data.encode import encode_corpus
from groundup.data.ledger import account
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.inspection.slide import write_windows_page
from groundup.text.config import PrepareConfig
from groundup.text.prepare import prepare
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.show import show_tokens
from groundup.tokenizer.train import train_tokenizer

EVIL = "</script><script>alert('x')</script> & <b>bold</b> words of prose. "


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slide")
    (folder / "a.txt").write_text(EVIL * 60)
    prepare(PrepareConfig(sources=(str(folder / "a.txt"),), out=folder / "data"))
    train_tokenizer(TrainTokenizerConfig(data=folder / "data", vocab_size=300))
    encode_corpus(folder / "data", load_tokenizer(folder / "data" / "tokenizer"))
    return folder / "data"


def test_the_page_holds_the_text_and_nothing_runs_from_it(data: Path) -> None:
    page = write_windows_page(data, data / "windows.html").read_text()
    assert "http" not in page
    assert len(re.findall("<script", page)) == 2
    table = json.loads(re.search(r'application/json">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    store = TokenStore.open(data / "train")
    assert [row[0] for row in table["tokens"]] == store.read(0, 400).tolist()
    assert "".join(row[1] for row in table["tokens"]).startswith(EVIL)


def test_the_page_counts_what_the_ledger_counts(data: Path) -> None:
    """The page's script, run in a browser, at T 4, stride 4, B 2."""
    found = dump(write_windows_page(data, data / "windows.html"))
    rows = dict(re.findall(r'<tr><td>([^<]*)</td><td class="n">([^<]*)</td></tr>', found))
    windows = Windows(TokenStore.open(data / "train"), 4, 4)
    ledger = account(windows, 2)
    assert rows["windows"] == f"{len(windows):,}"
    assert rows["targets predicted once"] == f"{ledger.n_targets_once:,}"
    assert rows["targets never predicted: after the last window"] == f"{ledger.n_targets_tail:,}"
    assert "inputs (2, 4)" in found


def test_a_window_may_be_longer_than_the_text(data: Path, tmp_path: Path) -> None:
    page = write_windows_page(data, tmp_path / "windows.html")
    whole = page.read_text()
    start = whole.index('application/json">') + len('application/json">')
    end = whole.index("</script>", start)
    table = json.loads(whole[start:end])
    table = {"tokens": table["tokens"][:24], "n_tokens": 24}
    page.write_text(whole[:start] + json.dumps(table).replace("<", "\\u003c") + whole[end:])
    found = run_script(
        page,
        """const T = document.getElementById("T"), found = [];
        for (T.value of [23, 24]) {
          T.dispatchEvent(new Event("input"));
          found.push([document.querySelectorAll("#tasks div").length,
            document.querySelector("#account .n").textContent]);
        }
        return found;""",
    )
    assert found == [[23, "1"], [0, "0"]]


def test_a_notebook_shows_tokens_windows_and_batches(data: Path) -> None:
    tokenizer = load_tokenizer(data / "tokenizer")
    shown = show_tokens("<b> two\nwords", tokenizer)._repr_html_()
    assert "<b>" not in shown
    assert "&lt;" in shown
    first = tokenizer.encode("<b> two\nwords")[0]
    assert f'title="id {first}, bytes {tokenizer.token_bytes(first).hex(" ")}"' in shown
    windows = Windows(TokenStore.open(data / "train"), 4, 2)
    assert "<script" not in windows._repr_html_()
    assert f"{len(windows):,} windows of 4 tokens" in windows._repr_html_()
    batch = next(Loader(windows, 3))
    cells = re.findall(r"<td[^>]*>(\d+)</td>", batch._repr_html_())
    expected = [i for b in range(3) for half in batch for i in half[b].tolist()]
    assert list(map(int, cells)) == expected
    packed = Windows(np.arange(9), 4, documents="packed")
    assert "input" in packed._repr_html_()
