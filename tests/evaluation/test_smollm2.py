"""Real weights: SmolLM2-135M-Instruct here, in transformers, and in llama.cpp."""

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_cpp import LlamaCpp
from peers import peer, smollm2

from groundup.evaluation.canary import CANARIES
from groundup.evaluation.export import export
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.pretrained import import_pretrained
from groundup.generation.generate import generate
from groundup.weights.config import ExportConfig, ImportConfig

pytestmark = [pytest.mark.slow, pytest.mark.parity]

PROMPTS = (
    "Once upon a time in a small village",
    "The capital of France is",
    "def fibonacci(n):\n    ",
)
CHAT = [
    {"role": "user", "content": "Name a color."},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": " Another one?\n"},
]
EXACT: dict[str, Any] = {"cache_type_k": 0, "cache_type_v": 0, "flash_attn_type": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `import` makes of the file."""
    out = tmp_path_factory.mktemp("smollm2") / "run"
    return import_pretrained(ImportConfig(source=smollm2(), out=out)).run


@pytest.fixture(scope="module")
def ours(run: Path) -> LanguageModel:
    return load(run)


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The same file, opened by transformers."""
    transformers = peer("transformers")
    peer("accelerate")
    file = smollm2()
    return transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    ).eval()


@torch.inference_mode()
def check_logits(ours: LanguageModel, theirs: Any) -> None:
    """In float64 both give the same logits. In float32 neither is exact, and ours are as close."""
    exact, theirs_exact = deepcopy(ours.model).double(), deepcopy(theirs).double()
    for text in (*PROMPTS, *CANARIES):
        ids = torch.tensor([ours.tokenizer.encode(text)])
        logits, expected = exact(ids), theirs_exact(ids).logits
        assert (logits - expected).abs().max() <= 1e-4, text
        our_error = (ours.model(ids) - logits).abs().max()
        their_error = (theirs(ids).logits - expected).abs().max()
        assert our_error <= 2 * their_error <= 1e-3, (text, our_error, their_error)


def test_the_logits_are_those_of_transformers(ours: LanguageModel, theirs: Any) -> None:
    check_logits(ours, theirs)


@torch.inference_mode()
def test_a_hundred_greedy_tokens_are_those_of_transformers(
    ours: LanguageModel, theirs: Any
) -> None:
    for text in PROMPTS:
        ids = ours.tokenizer.encode(text)
        found = generate(ours.model, ids, 100, temperature=0)
        expected = theirs.generate(
            torch.tensor([ids]), max_new_tokens=100, min_new_tokens=100, do_sample=False,
            eos_token_id=None,
        )[0, len(ids) :].tolist()  # fmt: skip
        if found != expected:
            at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            two = ours.model(torch.tensor([ids + found[:at]]))[0, -1].topk(2).values
            assert two[0] - two[1] < 1e-3, (text, at)


def test_llama_cpp_continues_our_file_in_float32(run: Path, ours: LanguageModel) -> None:
    result = export(ExportConfig(run=run, to="gguf"))
    assert result.max_logit_difference == 0
    judge = LlamaCpp(result.files[0], n_ctx=256, **EXACT)
    for text in PROMPTS:
        ids = ours.tokenizer.encode(text)
        found, expected = judge.greedy(ids, 48), generate(ours.model, ids, 48, temperature=0)
        assert found == expected[: len(found)], text
        assert len(found) == 48 or found[-1] in ours.stop_ids
    village = generate(ours.model, ours.tokenizer.encode(PROMPTS[0]), 48, temperature=0)
    text = ours.tokenizer.decode(village)
    assert text.startswith(", there was a wise old wizard named Elwendi.")
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choices("".join(CANARIES), k=30))
        assert judge.tokenize(text) == ours.tokenizer.encode(text), text
    prompt = judge.apply_template(CHAT)
    assert prompt.count("<|im_start|>") == 5
    assert judge.tokenize(prompt, special=True) == ours.tokenizer.encode(prompt, "all")
    result.files[0].unlink()


@pytest.mark.parametrize(("dtype", "kl"), [("float16", 2e-5), ("q8_0", 5e-3)])
def test_rounded_files_predict_nearly_the_same(run: Path, dtype: Any, kl: float) -> None:
    result = export(ExportConfig(run=run, to="gguf", dtype=dtype))
    assert result.agreement is not None
    print(dtype, result.agreement)
    assert result.agreement.kl_nats < kl
    assert result.agreement.top1_frac > 0.94
    result.files[0].unlink()


def test_transformers_opens_our_huggingface_folder(run: Path, ours: LanguageModel) -> None:
    folder = export(ExportConfig(run=run)).folder
    transformers = peer("transformers")
    auto = transformers.AutoModelForCausalLM
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.generation_config.eos_token_id in (2, [2, 0])
    check_logits(ours, model.eval())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (*PROMPTS, *CANARIES, "a  2", "\n  1. foo", "x = [1,  2,   3]"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == ours.tokenizer.encode(text, "all"), text
    chat = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    assert chat.endswith("<|im_end|>\n<|im_start|>assistant\n")
