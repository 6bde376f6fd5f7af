"""The report: one file, no network, the user's text escaped, honest about what is missing."""

import json
import re
import shutil
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser import run_script
from untrained_run import untrained_run

import groundup
from groundup.base.config import from_mapping
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.results import record_result
from groundup.base.run import RunFolder
from groundup.cli.main import main
from groundup.cli.windows import run as show_windows
from groundup.data.config import WindowsConfig
from groundup.data.encode import encode_corpus
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.evaluate import evaluate
from groundup.evaluation.load import LanguageModel, load
from groundup.inspection import report
from groundup.inspection.page_model import PageModel
from groundup.inspection.report import render_report, write_report
from groundup.inspection.run_results import read_run
from groundup.model.config import GPTConfig
from groundup.planning.config import PlanConfig
from groundup.planning.plan import plan
from groundup.pretraining.pretrain import pretrain
from groundup.text.config import PrepareConfig
from groundup.text.prepare import prepare
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.train import train_tokenizer
from groundup.train.config import PretrainConfig

EVIL = "<script>alert('x')</script> & <b>bold</b>"


class Page(HTMLParser):
    """Collects the tags and checks that they close."""

    VOID = ("meta", "br", "input", "link", "img", "use", "path", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    text = f"{EVIL} said the cat, and the cat said it again and again.\n\n" * 120
    (folder / "evil.txt").write_text(text, encoding="utf-8")
    data, out = folder / "data", folder / "run"
    source = str(folder / "evil.txt")
    record_result(data, "prepare", prepare(PrepareConfig(sources=(source,), out=data)))
    report = train_tokenizer(TrainTokenizerConfig(data=data, vocab_size=300))
    record_result(data, "train-tokenizer", report)
    encode_corpus(data, load_tokenizer(data / "tokenizer"))
    record_result(data, "windows", show_windows(WindowsConfig(data=data, context_length=16)))
    shape = GPTConfig(context_length=16, d_model=16, n_layers=1, n_heads=1)
    settings = PretrainConfig(data=data, out=out, model=shape, steps=3, batch_size=2)
    pretrain(replace_settings(settings, sample_every=2, sample_tokens=9))
    record_result(out, "evaluate", evaluate(EvaluateConfig(run=out)))
    return out


def test_the_page_is_whole_and_needs_no_network(run: Path) -> None:
    page = report_of(run).read_text(encoding="utf-8")
    parsed = Page(page)
    assert parsed.open == []
    assert {"table", "figure", "textarea"} <= set(parsed.tags)
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_users_text_is_escaped_everywhere(run: Path) -> None:
    page = report_of(run, EVIL).read_text(encoding="utf-8")
    assert EVIL not in page
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert page.count("<script") == 4, "the page's own and no other"


def test_what_is_not_done_yet_is_said_with_its_command(run: Path) -> None:
    page = report_of(run).read_text(encoding="utf-8")
    missing = re.findall(r"Not run yet: <code>groundup ([\w-]+)", page)
    assert missing == ["plan", "generate", "export", "classify", "instruct"]


def test_the_numbers_are_those_of_the_run(run: Path) -> None:
    page = report_of(run).read_text(encoding="utf-8")
    evaluation = json.loads((run / "results" / "evaluate.json").read_text())
    assert f"{evaluation['bits_per_byte']:.3f}" in page
    assert f"{evaluation['n_targets']:,} targets" in page


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        write_report(tmp_path / "none")


def test_a_plan_for_other_settings_is_not_shown(run: Path) -> None:
    data = run.parent / "data"
    settings = from_mapping(PlanConfig, RunFolder(run).read_config())
    try:
        for steps, is_own in ((3, True), (4, False)):
            made = plan(replace_settings(settings, steps=steps, probe_s=0.05, data=data))
            record_result(data, "plan", made)
            page = report_of(run).read_text(encoding="utf-8")
            assert ("Not run yet: <code>groundup plan" not in page) == is_own
    finally:
        (data / "results" / "plan.json").unlink()


def report_of(run: Path, text: str | None = None) -> Path:
    page = write_report(run, text=text)
    assert page is not None
    return page


SCRIPTS = Path(__file__).parent / "scripts"
CONTRAST = (SCRIPTS / "contrast.js").read_text(encoding="utf-8")
USE = (SCRIPTS / "use_report.js").read_text(encoding="utf-8")


def test_the_page_can_be_used(run: Path) -> None:
    """At the width of a phone: nothing scrolls sideways, and every part answers."""
    page, model = report_of(run, "the cat said it"), load(run)
    found: Any = run_script(page, CONTRAST + USE, width=390, budget_ms=20_000)
    assert "error" not in found, found
    assert found["width"] <= 390
    assert found["low"] == []
    ids = model.tokenizer.encode("the cat said")
    bytes_of = [model.tokenizer.token_bytes(i).hex(" ") for i in ids]
    assert found["tokens"] == [f"id {i}, bytes {b}" for i, b in zip(ids, bytes_of, strict=True)]
    best = model.tokenizer.decode([max(range(300), key=found["logits"].__getitem__)])
    assert len(found["next"]) == 10
    assert found["next"][0].startswith(best.replace(" ", "·"))
    assert found["appended"] == f"the cat said{best}"
    assert found["continued"].startswith(found["appended"])
    assert len(found["continued"]) > len(found["appended"])
    assert "tokens/s" in found["state"]
    assert found["undone"] == found["appended"]
    assert found["talk"][0] == "You Hello"
    assert found["talk"][1].startswith("Model ")
    assert found["pinned"] == 0
    assert found["clicked"] != found["moved"]
    assert found["columns"] == len(model.tokenizer.encode("the cat said it"))
    assert found["sample"] == (run / "samples" / "step-000002.txt").read_text(encoding="utf-8")


def test_an_assistant_answers_in_a_page_about_a_play(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page_model = report.page_model

    def with_chat(model: LanguageModel) -> PageModel:
        page = page_model(model)
        return replace(page, description={**page.description, "chat_ids": [1, 2, 3]})

    monkeypatch.setattr(report, "page_model", with_chat)
    monkeypatch.setattr(report, "cast_in", lambda data: SimpleNamespace(cues=("CAT.", "DOG.")))
    talk = """
const wait = until => new Promise(resolve => {
  const timer = setInterval(() => { if (until()) { clearInterval(timer); resolve(); } }, 20);
});
await wait(() => el("next").children.length);
el("talk-line").value = "Hello"; el("talk-form").requestSubmit();
await wait(() => el("talk-log").children.length === 2 && !el("talk-form").inert);
return { prompt: el("prompt").value, said: el("talk-log").children[0].textContent };
"""
    found: Any = run_script(report_of(run), talk, budget_ms=20_000)
    assert found["said"] == "You Hello"
    assert "CAT." not in found["prompt"]


def test_the_first_screen_states_the_result_and_shows_the_best_sample(run: Path) -> None:
    def first_screen() -> str:
        return report_of(run).read_text(encoding="utf-8").partition("</header>")[0]

    evaluation = json.loads((run / "results" / "evaluate.json").read_text())
    more = 100 * (evaluation["bits_per_byte"] / evaluation["xz_bits_per_byte"] - 1)
    said = r"learned evil.txt in \d+ s( on a CPU)? and needs (\d+) % more bits than xz\.</h1>"
    found = re.search(said, first_screen())
    assert found is not None
    assert abs(int(found[2]) - more) <= 0.5
    made = [
        {"setting": name, "text": words, "longest_recited": None, "recited_frac": None}
        for name, words in (("temperature 0 (greedy)", "the the"), ("a", " q&z"), ("b", " said"))
    ]
    try:
        record_result(run, "generate", {"prompt": "the cat", "samples": made})
        assert "<b>the cat</b> said</pre>" in first_screen()
        assert "(b; of 2 samples the one with the lowest loss)" in first_screen()
        record_result(run, "ending", {"lines": ["Ay me!", "<i>"]})
        assert "<b></b>Ay me!\n&lt;i&gt;</pre>" in first_screen()
    finally:
        for name in ("generate", "ending"):
            (run / "results" / f"{name}.json").unlink(missing_ok=True)


def test_dark_colors_can_be_read(run: Path) -> None:
    dark = ["--blink-settings=preferredColorScheme=0"]
    script = f"{CONTRAST} return [getComputedStyle(document.body).backgroundColor, lowContrast()];"
    color, low = run_script(report_of(run), script, options=dark)
    assert color == "rgb(20, 24, 29)"
    assert low == []


def test_without_the_model_the_page_says_so_and_keeps_the_attention(run: Path) -> None:
    page, why = render_report(read_run(run), text="the cat said", embed_model=False)
    assert why
    assert why in page
    assert 'id="weights"' not in page
    assert '"attention": {' in page


def test_the_command_writes_the_page_and_the_picture(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run), "--out", "page.html", "--card"]) == 0
    page, picture = Path("page.html").read_text(encoding="utf-8"), Path("card.png").read_bytes()
    assert 'id="weights"' in page
    assert struct.unpack(">II", picture[16:24]) == (1200, 630)
    said = " ".join(capsys.readouterr().out.split())
    assert f"page.html ({len(page.encode()) / 1e6:.1f} MB" in said
    assert "The model runs inside the page." in said
    assert main(["report", str(run), "--out", "page.html", "--card"]) == 0, "its own are replaced"
    assert main(["report", str(run / "tokenizer"), "--no-embed-model"]) == 0
    assert 'id="weights"' not in (run / "report.html").read_text(encoding="utf-8")


def test_no_text_is_generated_next_by_a_run_without_a_model(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = shutil.copytree(run, tmp_path / "bare")
    assert main(["report", str(bare), "--no-embed-model"]) == 0
    assert f"next: groundup generate {bare}" in capsys.readouterr().out
    shutil.rmtree(bare / "checkpoints")
    assert main(["report", str(bare)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The run has no model that can be loaded." in said
    assert "next:" not in said


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ("--card mine.png", 1, "a file at this place that groundup did not write"),
        ("--out mine.html", 1, "a file at this place that groundup did not write"),
        ("--card card.jpg", 2, "The name 'card.jpg' does not end with .png"),
        ("--card folder", 2, "folder: This is a folder. A file name that ends with .png is"),
        ("--card no/such/card.png --out no-page.html", 0, ""),
    ],
)
def test_no_other_file_is_replaced(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.png").write_bytes(b"mine")
    Path("mine.html").write_text("mine")
    Path("folder").mkdir()
    assert main(["report", str(run), *options.split()]) == status
    assert said in " ".join(capsys.readouterr().err.split())
    assert Path("mine.png").read_bytes() == b"mine"
    assert Path("mine.html").read_text() == "mine"


def test_an_imported_model_has_a_report(run: Path, tmp_path: Path) -> None:
    """Without records of training: the sentence, the figures and the model are there."""
    shutil.copytree(run / "tokenizer", tmp_path / "run" / "tokenizer")
    best = load(run).path
    shutil.copytree(best, tmp_path / "run" / "checkpoints" / "step-000000")
    (tmp_path / "run" / "manifest.json").write_text('{"job": "import"}')
    page = report_of(tmp_path / "run").read_text(encoding="utf-8")
    n = sum(p.numel() for p in load(run).model.parameters())
    assert f"<h1>An imported model of {n / 1e3:.2f} k parameters.</h1>" in page
    assert 'id="weights"' in page
    assert 'class="curve"' not in page
    with pytest.raises(UserError, match="nothing to draw") as caught:
        groundup.report(tmp_path / "run", card=tmp_path / "card.png")
    assert caught.value.command == f"groundup generate {tmp_path / 'run'}"


def test_a_model_without_attention_has_a_report_without_it(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", layers="d")
    page = report_of(run).read_text(encoding="utf-8")
    assert Page(page).open == []
    with pytest.raises(UserError, match="without d is expected"):
        groundup.explain(run)
