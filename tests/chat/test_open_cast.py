"""`chat` with a run that was trained on a play: who answers, and that it is true."""

import json
import shutil
from pathlib import Path

import pytest
from small_runs import settings

from groundup.base.errors import UserError
from groundup.chat.assistant import open_chat
from groundup.chat.cast_session import PROGRAM, CastSession
from groundup.chat.open_cast import cast_of
from groundup.chat.session import ChatSession
from groundup.cli.main import main
from groundup.finetune.instruct.instruct import instruct
from groundup.model.config import GPTConfig
from groundup.pretraining.pretrain import pretrain

SCENE = "ROMEO.\nAy me!\n\nJULIET.\nO Romeo, good night!\n\nNURSE.\nMadam!\n\nJULIET.\nAnon!\n\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plays")
    (folder / "play.txt").write_text(SCENE * 60)
    data = folder / "data"
    assert main(["prepare", str(folder / "play.txt"), "-o", str(data)]) == 0
    assert main(["train-tokenizer", str(data), "--vocab-size", "300"]) == 0
    model = GPTConfig(context_length=64, d_model=32, n_layers=1, n_heads=2)
    return pretrain(settings(data, out=folder / "runs" / "play", model=model, steps=40)).run


def test_the_cast_answers_and_the_program_answers_for_the_model(run: Path) -> None:
    chat = open_chat(run=run, character="juliet")
    assert isinstance(chat, CastSession)
    assert "".join(chat.ask("Good night!"))
    assert chat.speaker == "JULIET"
    answer = "".join(chat.ask("Who are you?"))
    assert answer.startswith("I am play, a language model with ")
    assert "".join(chat.ask("hello")).startswith("Hello! I am play")
    assert chat.speaker == PROGRAM
    assert "".join(chat.ask("What do you know?")) == "I was trained on play.txt."
    # The same seed and the same words give the same answer.
    first = ["".join(open_chat(run=run).ask("Good night!")) for _ in range(2)]
    assert first[0] == first[1]
    with pytest.raises(UserError, match="no character 'HAMLET'"):
        open_chat(run=run, character="HAMLET")


def test_the_path_may_be_written_in_any_way_and_the_corpus_may_be_gone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    assert cast_of(Path("../play")) is not None
    corpus = run.parents[1] / "data" / "corpus"
    corpus.rename(corpus.parent / "away")
    try:
        assert cast_of(run) is None
    finally:
        (corpus.parent / "away").rename(corpus)


def test_an_assistant_of_the_user_answers_instead(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{"prompt": f"say {k}", "completion": f"{k}!"} for k in range(60)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assistant = instruct(
        run=run, records=tmp_path / "mine.jsonl", steps=2, batch_size=2, baselines=False
    ).folder
    try:
        assert isinstance(open_chat(run=run), ChatSession)
        with pytest.raises(UserError, match="no run of a model that was trained on plays"):
            open_chat(run=run, character="ROMEO")
        mark = assistant / "assistant.json"
        about = json.loads(mark.read_text())
        mark.write_text(json.dumps(about | {"is_synthetic": True}))
        assert isinstance(open_chat(run=run), CastSession)
        assert isinstance(open_chat(run=assistant), ChatSession)
    finally:
        shutil.rmtree(assistant)
    assert main(["chat", str(run), "--ask", "Who are you?"]) == 0
    assert capsys.readouterr().out.startswith("I am play, a language model")
