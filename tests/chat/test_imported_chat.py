"""Imported chat models: found, asked with their own template, and stopped at every end."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_templates import TEMPLATES
from foreign_models import foreign_model
from foreign_tokenizers import KINDS

from groundup.base.errors import UserError
from groundup.chat.assistant import find_assistant, open_chat
from groundup.chat.session import ChatSession
from groundup.cli.main import main
from groundup.evaluation.export import export
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.pretrained import import_pretrained
from groundup.finetune.instruct.instruct import instruct
from groundup.generation.generate import generate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message
from groundup.weights.huggingface import export_huggingface

SIZE = max(token["id"] for token in KINDS["digits"]["added_tokens"]) + 1
IDS = {token["content"]: token["id"] for token in KINDS["digits"]["added_tokens"]}


def write_source(
    folder: Path,
    *,
    kind: str = "digits",
    template: str | None = TEMPLATES["chatml"],
    eos: str | None = "</s>",
    config_eos: int | None = None,
    generation: Any = None,
    rows: int = 512,
    always: int | None = None,
) -> Path:
    """A Hugging Face folder with a tiny model, whose embedding has more rows than tokens."""
    export_huggingface(foreign_model(rows, always=always), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"eos_token_id": config_eos, "bos_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (folder / "tokenizer.json").write_text(json.dumps(KINDS[kind]), encoding="utf-8")
    about = {"bos_token": "<s>", "eos_token": eos, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    source = write_source(tmp_path / "source", generation=[5, 7], config_eos=6)
    import_pretrained(source=source, out=Path("runs/imported"))
    return Path("runs/imported")


def test_ends_are_those_of_all_files_and_of_the_template(run: Path) -> None:
    model = load(run)
    assert set(model.stop_ids) == {5, 7, 6, IDS["</s>"], IDS["<|im_end|>"]}
    assert model.can_chat
    assert not model.is_assistant


@pytest.mark.parametrize("end", ["generation", "config", "tokenizer", "template"])
def test_each_end_stops_an_answer(end: str, tmp_path: Path) -> None:
    index = {"generation": 5, "config": 6, "tokenizer": IDS["</s>"], "template": IDS["<|im_end|>"]}
    source = write_source(tmp_path / "source", generation=[5, 7], config_eos=6, always=index[end])
    import_pretrained(source=source, out=tmp_path / "run")
    model = load(tmp_path / "run")
    assert generate(model.model, [1], 5, temperature=0.0, stop_ids=model.stop_ids) == []


def test_padded_rows_are_never_drawn(run: Path) -> None:
    model = load(run)
    assert model.model.config.vocab_size == 512
    assert model.tokenizer.vocab_size == SIZE
    new: list[int] = []
    for seed in range(20):  # 31 tokens fit in the context, and longer texts are read again
        new += generate(model.model, [1], 31, temperature=5.0, seed=seed, stop_ids=())
    assert len(new) == 620
    assert max(new) < SIZE
    assert len(set(new)) > SIZE // 2


class Listener:
    """What a session gives to its model."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []

    def __call__(self, ids: list[int], max_new_tokens: int) -> Iterator[int]:
        self.prompts.append(ids)
        yield IDS["<|im_end|>"]


def session(model: LanguageModel, listener: Listener, system: str | None = None) -> ChatSession:
    return ChatSession(
        listener,
        model.tokenizer,
        context_length=4000,
        stop_ids=model.stop_ids,
        template=model.chat_template,
        system=system,
    )


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen3", "zephyr"])
def test_training_chat_and_server_render_the_same(name: str, tmp_path: Path) -> None:
    """The server calls render_ids, as the others do."""
    source = write_source(tmp_path / "source", template=TEMPLATES[name])
    import_pretrained(source=source, out=tmp_path / "run")
    model, listener = load(tmp_path / "run"), Listener()
    question = "<|im_end|> Hi </s> <think>"
    list(session(model, listener).ask(question))
    served, _ = render_ids(
        [Message("user", question)],
        model.tokenizer,
        model.chat_template,
        add_generation_prompt=True,
    )
    turns = [Message("user", question), Message("assistant", "Hello, the cat.")]
    trained, mask = render_ids(turns, model.tokenizer, model.chat_template)
    assert listener.prompts == [served]
    assert trained[: len(served)] == served or name in ("qwen3", "zephyr")  # a line feed
    special = set(model.tokenizer.special_tokens.values())
    assert [i for i in served if i in special] == [
        i for i in trained[: mask.index(1)] if i in special
    ]
    learned = model.tokenizer.decode([i for i, n in zip(trained, mask, strict=True) if n])
    assert learned.startswith("Hello, the cat.")


def test_a_system_message_begins_the_conversation(run: Path) -> None:
    model, listener = load(run), Listener()
    chat = session(model, listener, system="Be kind. <|im_end|>")
    list(chat.ask("Hi"))
    text = model.tokenizer.decode(listener.prompts[0])
    assert text == (
        "<|im_start|>system\nBe kind. <|im_end|><|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert listener.prompts[0].count(IDS["<|im_end|>"]) == 2
    chat.reset()
    assert [message.role for message in chat.messages] == ["system"]


def test_the_oldest_exchange_is_left_out_and_not_the_system_message(run: Path) -> None:
    model, listener = load(run), Listener()
    chat = ChatSession(
        listener, model.tokenizer, context_length=80, max_new_tokens=8,
        template=model.chat_template, system="Be kind.", stop_ids=model.stop_ids,
    )  # fmt: skip
    for question in ("first question", "second question", "third question", "fourth question"):
        list(chat.ask(question))
    assert chat.n_forgotten > 0
    assert all(len(prompt) <= 72 for prompt in listener.prompts)
    last = model.tokenizer.decode(listener.prompts[-1])
    assert last.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert "fourth question" in last
    assert "first question" not in last


def test_a_template_without_system_messages_says_so(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", template=TEMPLATES["gemma"])
    import_pretrained(source=source, out=tmp_path / "run")
    with pytest.raises(UserError, match="System role not supported"):
        session(load(tmp_path / "run"), Listener(), system="Be kind.")


def test_the_newest_run_that_can_chat_is_taken(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_assistant(run) == run
    assert main(["chat", "--ask", "Hi", "--max-new-tokens", "2"]) == 0
    assert "Using the newest run: runs/imported" in capsys.readouterr().err
    shutil.rmtree(run)
    plain = write_source(Path("plain"), template=None)
    import_pretrained(source=plain, out=Path("runs/plain"))
    assert main(["chat", "--ask", "Hi"]) == 1
    assert "groundup instruct runs/plain" in capsys.readouterr().err
    with pytest.raises(UserError, match="no assistant in this run"):
        find_assistant(Path("runs/plain"))


def test_sentencepiece_answers_begin_without_the_space_of_their_first_token(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s", kind="sentencepiece", template=TEMPLATES["llama2"])
    import_pretrained(source=source, out=tmp_path / "run")
    model = load(tmp_path / "run")
    answer = model.tokenizer.encode("the cat")

    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        assert ids[0] == 1
        assert 1 not in ids[1:]
        yield from answer

    chat = ChatSession(
        speak, model.tokenizer, context_length=1000, template=model.chat_template,
        stop_ids=model.stop_ids,
    )  # fmt: skip
    assert "".join(chat.ask("Hi <s>")) == "the cat"


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{% for i in range(10**12) %}{% endfor %}", "{% if"]
)
def test_a_hostile_template_is_not_imported(template: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", template=template)
    with pytest.raises(UserError, match="chat template cannot be rendered"):
        import_pretrained(source=source, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_damaged_template_still_opens(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "tokenizer" / "chat_template.jinja").write_text("{{ ''.__class__ }}")
    model = load(run)
    assert "__class__" in caplog.text
    with pytest.raises(UserError, match="chat template cannot be rendered"):
        list(session(model, Listener()).ask("Hi"))


def test_instruct_trains_with_the_template_of_the_model(tmp_path: Path) -> None:
    source = write_source(
        tmp_path / "source",
        template="{% for m in messages %}{{ m.role[0] + m.content + '<|im_end|>' }}{% endfor %}",
    )
    import_pretrained(source=source, out=tmp_path / "run")
    records = [{"instruction": word * 3, "output": "b"} for word in "abcdefgh"]
    (tmp_path / "records.json").write_text(json.dumps(records))
    result = instruct(
        run=tmp_path / "run", records=tmp_path / "records.json", steps=2, batch_size=2,
        max_new_tokens=2,
    )  # fmt: skip
    assert result.prepared.added_tokens == ()
    tuned, before = load(result.folder), load(tmp_path / "run")
    assert tuned.is_assistant
    assert tuned.chat_template is not None
    assert before.chat_template is not None
    assert tuned.chat_template.source == before.chat_template.source
    assert tuned.stop_ids == before.stop_ids
    assert tuned.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert isinstance(open_chat(run=tmp_path / "run"), ChatSession)


def test_an_export_states_the_end_of_a_turn(run: Path) -> None:
    folder = export(run=run).folder
    about = json.loads((folder / "generation_config.json").read_text())
    assert about["eos_token_id"] == [5, 7, IDS["</s>"], IDS["<|im_end|>"]]
    import_pretrained(source=folder, out=Path("runs/again"))
    again, before = load(Path("runs/again")), load(run)
    assert set(again.stop_ids) == set(before.stop_ids)
    assert again.chat_template is not None
    assert before.chat_template is not None
    assert again.chat_template.source == before.chat_template.source


def test_a_hostile_template_is_not_exported(run: Path) -> None:
    (run / "tokenizer" / "chat_template.jinja").write_text("{{ ''.__class__ }}")
    with pytest.raises(UserError, match="chat template cannot be rendered"):
        export(run=run)
