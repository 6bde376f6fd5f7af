"""`explain` as a library function: the attention of one head, and the report."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_server import chat_run

import groundup
from groundup.cli.main import main
from groundup.evaluation.load import load

OLD = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old" / "run"


def test_explain_gives_the_head_and_writes_the_report(run: Path, capfd) -> None:
    result = groundup.explain(groundup.ExplainConfig(run=run))
    assert result.report == run / "report.html"
    assert result.report.is_file()
    assert (result.layer, result.head) == (0, 0)
    n = len(result.tokens)
    assert [len(row) for row in result.attention] == [n] * n
    assert all(sum(row) == pytest.approx(1.0, abs=1e-5) for row in result.attention)
    assert result.most_attended[0] == result.tokens[0], "the first token sees only itself"
    assert len(result.next_tokens) == 5
    assert "brown fox" not in "".join(result.tokens), "a line of the validation set is taken"
    assert capfd.readouterr().out == ""


def test_a_head_that_is_not_there_is_refused_with_one_that_is(run: Path) -> None:
    with pytest.raises(groundup.UserError, match="1 layers of 1 heads") as caught:
        groundup.explain(groundup.ExplainConfig(run=run, head=1))
    assert caught.value.settings == {"layer": 0, "head": 0}


def test_without_its_data_the_report_says_so(run: Path) -> None:
    shutil.rmtree(run.parent / "data")
    page = groundup.explain(groundup.ExplainConfig(run=run)).report.read_text(encoding="utf-8")
    assert "The results of the data stages are missing." in page
    assert "/home/user/data" in page


def test_a_long_sentence_is_shown_in_part_and_predicted_from_its_end(
    tmp_path: Path, capsys
) -> None:
    run = chat_run(tmp_path / "tiny")
    language_model = load(run)
    n_context = language_model.model.config.context_length
    end = " and the dog sleeps"
    for n_words in (8, 200):  # the second is longer than the context
        text = "the cat sat on " * n_words + end
        ids = language_model.tokenizer.encode(text)
        with torch.no_grad():
            logits = language_model.model(torch.tensor([ids[-n_context:]]))[0, -1]
        best = logits[: language_model.model.n_used_ids].softmax(dim=-1).max().item()
        assert main(["explain", str(run), "--text", text]) == 0
        assert n_words == 200 or 24 < len(ids) < n_context
        assert f"The first 24 of {len(ids):,} tokens are shown." in capsys.readouterr().out
        result = groundup.explain(groundup.ExplainConfig(run=run, text=text))
        assert (len(result.tokens), result.n_tokens) == (24, len(ids))
        assert result.next_tokens[0][1] == pytest.approx(best, abs=1e-6), "rounding of float32"
    assert main(["explain", str(run), "--text", "the dog"]) == 0
    assert "tokens are shown" not in capsys.readouterr().out
