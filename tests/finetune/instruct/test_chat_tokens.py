"""An imported model without chat tokens becomes an assistant, which is exported and answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import foreign_model, foreign_tokenizer, write_foreign

from groundup.base.errors import UserError
from groundup.chat.assistant import open_chat
from groundup.chat.config import ChatConfig
from groundup.cli.main import main
from groundup.evaluation.export import export
from groundup.evaluation.load import load
from groundup.evaluation.pretrained import import_pretrained
from groundup.finetune.instruct.chat_tokens import CHAT_TOKENS, with_chat_tokens, with_rows
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.instruct import instruct
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.special import END, USER
from groundup.tokenizer.template import Message, render, render_prompt
from groundup.tokenizer.words import WordTokenizer
from groundup.weights.config import ExportConfig, ImportConfig

N = foreign_tokenizer().vocab_size


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "assistant" not in file.parts and "results" not in file.parts
    }


@pytest.mark.parametrize("rows", [N, N + 2, N + 119])
def test_instruct_takes_imported_weights(
    tmp_path: Path, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_foreign(tmp_path / "hf", rows=rows, config={"eos_token_id": N - 1})
    run = import_pretrained(ImportConfig(source=folder, out=tmp_path / "run")).run
    before = files(run)
    records = tmp_path / "records.json"
    records.write_text(
        json.dumps(
            [{"instruction": f"say {word * 3}", "output": "the cat"} for word in "abcdefghi"]
        )
    )
    words = ["instruct", str(run), "--records", str(records), "--steps", "2", "--batch-size", "2"]
    assert main([*words, "--max-new-tokens", "4", "--threads", "1"]) == 0
    screen = capsys.readouterr().out
    assert "Added, with new rows of the embedding: <|user|>, <|assistant|>, <|end|>." in " ".join(
        screen.split()
    )
    assert files(run) == before, "the base run is unchanged"
    assistant = load(run / "assistant")
    assert assistant.model.config.vocab_size == max(rows, N + 3)
    assert [assistant.tokenizer.special_tokens[name] for name in CHAT_TOKENS] == [N, N + 1, N + 2]
    assert assistant.model.head.weight is assistant.model.token_embedding.weight
    assert assistant.stop_ids[:2] == (N + 2, N - 1)
    assert isinstance("".join(open_chat(ChatConfig(run=run)).ask("say 3")), str)
    result = export(ExportConfig(run=run / "assistant"))
    assert result.eos_token_ids == (N + 2, N - 1)
    assert result.n_checked_template_ids > 0
    again = import_pretrained(ImportConfig(source=result.folder, out=tmp_path / "back")).run
    assert load(again).stop_ids == (N + 2, N - 1)
    assert load(again).is_assistant
    assert isinstance("".join(open_chat(ChatConfig(run=again)).ask("say 3")), str)
    manifest = json.loads((run / "assistant" / "manifest.json").read_text())
    assert manifest["added_tokens"] == list(CHAT_TOKENS)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n_spare", [0, 1, 9])
def test_new_rows_are_near_the_mean_and_the_others_are_unchanged(tied: bool, n_spare: int) -> None:
    model = foreign_model(20 + n_spare, tied=tied).eval()
    larger = with_rows(model, 20, 23, seed=1).eval()
    assert larger.config.vocab_size == max(23, 20 + n_spare)
    assert larger.n_used_ids == 23
    assert (larger.head.weight is larger.token_embedding.weight) is tied
    for old, new in (
        (model.token_embedding.weight, larger.token_embedding.weight),
        (model.head.weight, larger.head.weight),
    ):
        assert torch.equal(new[:20], old[:20])
        assert torch.equal(new[23:], old[23:])
        rows, mean = new[20:23].detach(), old[:20].detach().mean(dim=0)
        assert (rows - mean).abs().max() < 0.1 * old.detach().std()
        assert len(rows.unique(dim=0)) == 3, "the rows differ, or they could not be told apart"
    ids = torch.tensor([[1, 5, 9, 19]])
    with torch.no_grad():
        assert torch.equal(larger(ids)[..., :20], model(ids)[..., :20])
    assert torch.equal(with_rows(model, 20, 23, seed=1).head.weight, larger.head.weight)


def test_a_model_with_chat_tokens_stays_as_it_is(run: Path) -> None:
    foundation = load(run)
    assert with_chat_tokens(foundation) == (foundation, ())


@pytest.mark.parametrize(
    "tokenizer",
    [
        foreign_tokenizer(),
        CharacterTokenizer.from_text("the cat", special_tokens=("<|endoftext|>",)),
        WordTokenizer.from_text("the cat sat"),
        foreign_tokenizer(("<|end|>", "<|endoftext|>")),
    ],
)
def test_every_kind_of_tokenizer_takes_further_tokens(tokenizer: Any, tmp_path: Path) -> None:
    larger = with_special_tokens(tokenizer, CHAT_TOKENS)
    assert larger.encode("the cat") == tokenizer.encode("the cat")
    assert {**larger.special_tokens, **tokenizer.special_tokens} == larger.special_tokens
    new = [larger.special_tokens[n] for n in CHAT_TOKENS if n not in tokenizer.special_tokens]
    assert new == list(range(tokenizer.vocab_size, larger.vocab_size))
    text = f"{USER}the cat{END}"
    assert larger.encode(text, allowed_special="all") == [
        larger.special_tokens[USER],
        *tokenizer.encode("the cat"),
        larger.special_tokens[END],
    ]


def test_a_kind_that_takes_no_tokens_is_named() -> None:
    class Fixed(CharacterTokenizer):
        def save(self, folder: Path | str) -> None:
            Path(folder).mkdir()

    with pytest.raises(UserError, match=r"no <\|user\|>.* a Fixed takes no further tokens"):
        with_special_tokens(Fixed("ab", special_tokens=()), CHAT_TOKENS)


@pytest.mark.parity
def test_transformers_renders_the_template_and_stops_at_the_end(run: Path, tmp_path: Path) -> None:
    """An assistant whose head always prefers <|end|> stops by itself, with the ids of training."""
    transformers = pytest.importorskip("transformers")
    records = tmp_path / "records.json"
    records.write_text('[{"instruction":"a","output":"b"},{"instruction":"c","output":"d"}]')
    folder = instruct(
        InstructConfig(run=run, records=records, steps=1, batch_size=2, threads=1)
    ).folder
    opened = load(folder)
    ours, end = opened.tokenizer, opened.tokenizer.special_tokens[END]
    out = export(ExportConfig(run=folder)).folder
    about = json.loads((out / "tokenizer_config.json").read_text())
    assert about["eos_token"] == END
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [end, ours.special_tokens["<|endoftext|>"]]
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    assert theirs.eos_token_id == end
    turns = [
        Message("user", " Hello\n"),
        Message("assistant", "naïve 中文 😀"),
        Message("user", "It's 12345!  "),
    ]
    messages = [vars(turn) for turn in turns]
    for conversation, is_prompt in ((turns[:1], True), (turns, True), (turns[:2], False)):
        ids = theirs.apply_chat_template(
            [vars(turn) for turn in conversation],
            add_generation_prompt=is_prompt,
            tokenize=True,
            return_dict=False,
        )
        expected = render_prompt(conversation, ours) if is_prompt else render(conversation, ours)[0]
        assert ids == expected
    with pytest.raises(Exception, match="user and assistant"):
        theirs.apply_chat_template([{"role": "system", "content": "x"}, *messages])
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    prompt = torch.tensor([render_prompt(turns[:1], ours)])
    with torch.no_grad():  # the head always prefers <|end|>
        hidden = model.model(prompt).last_hidden_state[0, -1]
        head = torch.zeros_like(model.lm_head.weight)
        head[end] = hidden
        model.lm_head.weight = torch.nn.Parameter(head)
    new = model.generate(prompt, max_new_tokens=9, do_sample=False)[0, prompt.shape[1] :]
    assert new.tolist() == [end]
