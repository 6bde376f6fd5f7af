"""The report: one file, no network, the user's text escaped, honest about what is missing."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from groundup.base.config import from_mapping
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.results import record_result
from groundup.base.run import RunFolder
from groundup.cli.windows import run as show_windows
from groundup.data.config import WindowsConfig
from groundup.data.encode import encode_corpus
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.evaluate import evaluate
from groundup.inspection.report import write_report
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
    pretrain(settings)
    record_result(out, "evaluate", evaluate(EvaluateConfig(run=out)))
    return out


def test_the_page_is_whole_and_needs_no_network(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    parsed = Page(page)
    assert parsed.open == []
    assert {"table", "svg", "blockquote"} - set(parsed.tags) <= {"blockquote"}
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "@import" not in page


def test_the_users_text_is_escaped_everywhere(run: Path) -> None:
    page = write_report(run, text=EVIL).read_text(encoding="utf-8")
    assert EVIL not in page
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert page.count("<script") == 2, "the page's own two and no other"


def test_what_is_not_done_yet_is_said_with_its_command(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    missing = re.findall(r"Not run yet: <code>groundup ([\w-]+)", page)
    assert missing == ["plan", "generate", "export", "classify", "instruct"]


def test_the_numbers_are_those_of_the_run(run: Path) -> None:
    import json

    page = write_report(run).read_text(encoding="utf-8")
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
            page = write_report(run).read_text(encoding="utf-8")
            assert ("Not run yet: <code>groundup plan" not in page) == is_own
    finally:
        (data / "results" / "plan.json").unlink()
