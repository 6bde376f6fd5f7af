"""What is exported runs elsewhere as it runs here: in transformers, llama.cpp and nanoGPT."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from exported import bpe, random_model, write_assistant, write_run
from llama_cpp import LlamaCpp
from peers import peer
from plain_nanogpt import PlainGPT
from safetensors.torch import load_file

from groundup.base.errors import UserError
from groundup.base.files import read_json, write_json
from groundup.base.gguf import read_gguf_header
from groundup.cli.main import main
from groundup.evaluation.export import export
from groundup.evaluation.load import load
from groundup.evaluation.match import match
from groundup.evaluation.pretrained import import_pretrained
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, render_template
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.template import Message, render_prompt
from groundup.weights.config import ExportConfig, ImportConfig, MatchConfig

EXACT: dict[str, Any] = {"cache_type_k": 0, "cache_type_v": 0, "flash_attn_type": 0}
PIECES = [
    *(" ", "  ", "\n", "\n\n", "\r\n", "\t", "1", "23", "2024", "a", "The", "the cat", "'s", "'S"),
    *("é", "e\u0301", "日本語", "العربية", "😀", "...", "=", "[1,", "\u00a0", "hello", "x"),
    *("<|end|>", "<|user|>", "<|endoftext|>", "<|", "|>"),
]


def texts(n: int) -> list[str]:
    draw = random.Random(3)
    return ["".join(draw.choices(PIECES, k=draw.randrange(1, 12))) for _ in range(n)]


@pytest.mark.parity
def test_an_exported_assistant_stops_in_transformers(tmp_path: Path) -> None:
    run, answer = write_assistant(tmp_path / "run")
    folder = export(ExportConfig(run=run)).folder
    transformers = peer("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    chat = [{"role": "user", "content": "the cat?"}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    ours = load(run)
    assert ids[0].tolist() == render_prompt([Message("user", "the cat?")], ours.tokenizer)
    out = model.generate(ids, max_new_tokens=20, do_sample=False)
    special = ours.tokenizer.special_tokens
    assert out[0, ids.shape[1] :].tolist() == [*answer, special[END]]
    asked = render_prompt([Message("user", "the cat?")], ours.tokenizer)
    stops: dict[str, Any] = {"temperature": 0, "stop_ids": ours.stop_ids}
    assert generate(ours.model, asked, 20, **stops) == answer


@pytest.mark.parity
def test_an_exported_assistant_stops_in_llama_cpp(tmp_path: Path) -> None:
    run, answer = write_assistant(tmp_path / "run")
    result = export(ExportConfig(run=run, to="gguf"))
    assert result.files == (run / "gguf" / "run-float32.gguf",)
    assert result.eos_token_ids[0] == load(run).tokenizer.special_tokens[END]
    theirs = LlamaCpp(result.files[0], **EXACT)
    messages: list[Any] = [
        {"role": "user", "content": "hi there "},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "\n日本"},
    ]
    prompt = theirs.apply_template(messages)
    turns = [Message(**each) for each in messages]
    assert prompt == render_template(CHAT_TEMPLATE, turns, add_generation_prompt=True)
    ids = theirs.tokenize(prompt, special=True)
    assert ids == render_prompt(turns, load(run).tokenizer)
    special = load(run).tokenizer.special_tokens
    assert theirs.greedy(ids, 20) == [*answer, special[END]]


@pytest.mark.parity
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_llama_cpp_tokenizes_as_we_do(tmp_path: Path, pattern: str) -> None:
    tokenizer = bpe(pattern)
    run = write_run(tmp_path / "run", random_model(tokenizer.vocab_size + 5), tokenizer)
    result = export(ExportConfig(run=run, to="gguf"))
    assert not result.notes
    header = read_gguf_header(result.files[0])
    pre = {"gpt2": "gpt-2", "gpt4": "dbrx"}[pattern]
    assert header.metadata["tokenizer.ggml.pre"] == pre
    assert header.metadata["tokenizer.ggml.token_type"][-5:].tolist() == [5] * 5
    again = import_pretrained(ImportConfig(source=result.files[0], out=tmp_path / "again"))
    assert (again.vocab_size, again.n_unused_rows) == (tokenizer.vocab_size, 5)
    theirs = LlamaCpp(result.files[0])
    for text in texts(300):
        assert theirs.tokenize(text) == tokenizer.encode(text), text
        assert theirs.tokenize(text, special=True) == tokenizer.encode(text, "all"), text


def test_a_text_that_llama_cpp_cuts_otherwise_is_noted(tmp_path: Path) -> None:
    tokenizer = bpe()
    newline, space = tokenizer.encode("\n")[0], tokenizer.encode(" ")[0]
    crossing = type(tokenizer)([(newline, space)], pattern="gpt4")
    run = write_run(tmp_path / "run", random_model(crossing.vocab_size), crossing)
    notes = export(ExportConfig(run=run, to="gguf")).notes
    assert len(notes) == 1
    assert "after the last line break" in notes[0]


@pytest.mark.parametrize("dtype", ["float16", "q8_0"])
def test_rounded_weights_report_what_they_cost(tmp_path: Path, dtype: Any) -> None:
    tokenizer = bpe()
    run = write_run(tmp_path / "run", random_model(tokenizer.vocab_size), tokenizer)
    result = export(ExportConfig(run=run, to="gguf", dtype=dtype))
    exact = export(ExportConfig(run=run, to="gguf"))
    assert exact.agreement is None
    assert exact.max_logit_difference < 1e-5
    assert result.agreement is not None
    assert 0.9 < result.agreement.top1_frac <= 1
    assert 0 < result.agreement.kl_nats < (1e-5 if dtype == "float16" else 1e-2)
    assert result.n_bytes < exact.n_bytes


def test_a_run_survives_the_way_through_both_formats(tmp_path: Path) -> None:
    run, _ = write_assistant(tmp_path / "run")
    huggingface = export(ExportConfig(run=run)).folder
    first = import_pretrained(ImportConfig(source=huggingface, out=tmp_path / "first")).run
    gguf = export(ExportConfig(run=first, to="gguf", out=tmp_path / "model.gguf")).files[0]
    second = import_pretrained(ImportConfig(source=gguf, out=tmp_path / "second")).run
    again = export(ExportConfig(run=second, out=tmp_path / "again")).folder
    third = import_pretrained(ImportConfig(source=again, out=tmp_path / "third")).run
    models = [load(each) for each in (run, first, second, third)]
    for other in models[1:]:
        state = other.model.state_dict()
        for name, value in models[0].model.state_dict().items():
            assert torch.equal(value, state[name])
        for text in texts(50):
            assert other.tokenizer.encode(text, "all") == models[0].tokenizer.encode(text, "all")
        assert set(other.stop_ids) == set(models[0].stop_ids)
        assert other.is_assistant
    template = read_json(again / "tokenizer_config.json")["chat_template"]
    assert template == read_json(huggingface / "tokenizer_config.json")["chat_template"]


def original(family: str, folder: Path, vocab_size: int) -> None:
    """Write a model of transformers with random weights."""
    transformers = peer("transformers", major=5)
    shared: dict[str, Any] = {"vocab_size": vocab_size, "eos_token_id": 5, "bos_token_id": 5}
    if family == "gpt2":
        more: dict[str, Any] = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    else:
        more = {
            "max_position_embeddings": 64, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "tie_word_embeddings": family == "qwen3",
        }  # fmt: skip
    if family == "llama":
        more["rope_parameters"] = {
            "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        }  # fmt: skip
    config = transformers.AutoConfig.for_model(family, **shared | more)
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(0.3 * noise + (parameter.ndim == 1))
    model.save_pretrained(folder)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "qwen3"])
def test_a_huggingface_folder_comes_back_through_gguf_bit_by_bit(
    tmp_path: Path, family: str
) -> None:
    tokenizer, source = bpe("gpt2"), tmp_path / "source"
    original(family, source, tokenizer.vocab_size)
    tokenizer.save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "tokenizer.json").rename(source / "tokenizer.json")
    template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    write_json(source / "tokenizer_config.json", {"chat_template": template, "eos_token": "%"})
    first = import_pretrained(ImportConfig(source=source, out=tmp_path / "first")).run
    gguf = export(ExportConfig(run=first, to="gguf")).files[0]
    second = import_pretrained(ImportConfig(source=gguf, out=tmp_path / "second")).run
    back = export(ExportConfig(run=second)).folder
    before, after = (load_file(f / "model.safetensors") for f in (source, back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not match(MatchConfig(run=first, against=gguf)).findings
    assert not match(MatchConfig(run=second, against=source)).findings
    transformers = peer("transformers")
    models = [transformers.AutoModelForCausalLM.from_pretrained(f).eval() for f in (source, back)]
    ids = torch.arange(64)[None]
    with torch.no_grad():
        theirs, ours = (model(ids).logits for model in models)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    ends = [model.generation_config.eos_token_id for model in models]
    assert ends[0] in (5, [5])
    assert 5 in (ends[1] if isinstance(ends[1], list) else [ends[1]])


def nanogpt_config(**changes: Any) -> GPTConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 61, "context_length": 24, "d_model": 32, "n_layers": 2, "n_heads": 4,
        "norm": "layer", "norm_eps": 1e-5, "positions": "learned", "qk_norm": False,
        "activation": "gelu-exact", "bias": True, "qkv_bias": True, "init": "gpt2",
    }  # fmt: skip
    return GPTConfig(**sizes | changes)


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt_computes_the_same(tmp_path: Path, bias: bool) -> None:
    ours = GPT(nanogpt_config(bias=bias, qkv_bias=bias), seed=3).eval()
    run = write_run(tmp_path / "run", ours, None)
    result = export(ExportConfig(run=run, to="nanogpt"))
    assert result.files == (run / "nanogpt" / "ckpt.pt",)
    checkpoint = torch.load(result.files[0], weights_only=True)
    assert checkpoint["iter_num"] == 7
    theirs = PlainGPT(SimpleNamespace(**checkpoint["model_args"])).eval()
    theirs.load_state_dict(checkpoint["model"])
    ids = torch.arange(24)[None]
    with torch.no_grad():
        logits = theirs(ids, ids)[0]
        torch.testing.assert_close(logits, ours(ids), rtol=1e-4, atol=1e-4)
    back = import_pretrained(ImportConfig(source=result.files[0], out=tmp_path / "back"))
    assert back.model_type == "nanogpt"
    export(ExportConfig(run=run, to="nanogpt"))  # an earlier export is replaced


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "gelu"}, "activation is 'gelu' instead of 'gelu-exact'"),
        ({"tie_embeddings": False}, "tie_embeddings is False instead of True"),
        ({"d_ff": 40}, "ff_width is 40 instead of 128"),
    ],
)
def test_what_nanogpt_does_not_compute_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    run = write_run(tmp_path / "run", GPT(nanogpt_config(**changes)), None)
    with pytest.raises(UserError, match=said):
        export(ExportConfig(run=run, to="nanogpt"))
    assert not (run / "nanogpt").exists()


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    tokenizer = bpe()
    run = write_run(tmp_path / "run", random_model(tokenizer.vocab_size), tokenizer)
    export(ExportConfig(run=run, to="gguf", out=tmp_path))
    file = tmp_path / "run-float32.gguf"
    export(ExportConfig(run=run, to="gguf", out=file))  # an earlier export
    other = tmp_path / "thesis.txt"
    other.write_text("years of work")
    with pytest.raises(UserError, match="did not export"):
        export(ExportConfig(run=run, to="gguf", out=other))
    plain = write_run(tmp_path / "plain", GPT(nanogpt_config()), None)
    with pytest.raises(UserError, match="did not export"):
        export(ExportConfig(run=plain, to="nanogpt", out=other))
    assert other.read_text() == "years of work"


def test_kinds_without_a_place_in_the_format_are_refused(tmp_path: Path) -> None:
    tokenizer = bpe()
    run = write_run(tmp_path / "run", random_model(tokenizer.vocab_size), None)
    assert not export(ExportConfig(run=run, to="gguf")).has_tokenizer
    (run / "tokenizer").mkdir()
    (run / "tokenizer" / "ladder.json").write_text('{"kind": "words"}')
    with pytest.raises(UserError, match="no tokenizer of this kind"):
        export(ExportConfig(run=run, to="gguf"))
    with pytest.raises(UserError, match="written in float32") as caught:
        export(ExportConfig(run=run, dtype="q8_0"))
    assert caught.value.settings == {"to": "gguf"}
    custom = type(tokenizer)(tokenizer.merges, pattern=r"\w+|\W")
    other = write_run(tmp_path / "other", random_model(custom.vocab_size), custom)
    with pytest.raises(UserError, match=r"llama\.cpp has no name for it"):
        export(ExportConfig(run=other, to="gguf"))
    assert not (other / "gguf").exists()
    assert END_OF_TEXT in tokenizer.special_tokens


def test_the_command_writes_a_file_and_states_the_agreement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = bpe()
    run = write_run(tmp_path / "run", random_model(tokenizer.vocab_size), tokenizer)
    assert main(["export", str(run), "--to", "gguf", "--dtype", "q8_0"]) == 0
    said = capsys.readouterr().out
    assert "run-q8_0.gguf" in said
    assert "mean KL divergence" in said.replace("\n", " ")
    assert main(["export", str(run), "--dtype", "q8_0"]) == 1
    assert f"groundup export {run} --dtype q8_0 --to gguf" in capsys.readouterr().err
