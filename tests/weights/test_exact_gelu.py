"""The exact GELU goes to the Hugging Face format and back, and transformers computes the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.huggingface import export_huggingface
from groundup.weights.huggingface_folder import import_huggingface


@pytest.mark.parametrize(("activation", "theirs"), [("gelu-exact", "gelu"), ("gelu", "gelu_new")])
def test_both_forms_of_gelu(activation: Any, theirs: str, tmp_path: Path) -> None:
    config = GPTConfig(
        vocab_size=11, context_length=8, d_model=16, n_layers=2, n_heads=2, norm="layer",
        norm_eps=1e-5, positions="learned", qk_norm=False, activation=activation, bias=True,
        qkv_bias=True, init="torch",
    )  # fmt: skip
    model = GPT(config, seed=1).eval()
    export_huggingface(model, tmp_path / "gpt2")
    about = json.loads((tmp_path / "gpt2" / "config.json").read_text("utf-8"))
    assert about["activation_function"] == theirs
    ids = torch.arange(8)[None]
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")(ids).logits
    torch.testing.assert_close(model(ids), wanted, rtol=1e-5, atol=1e-6)
    read = import_huggingface(tmp_path / "gpt2")
    assert read.config.activation == activation
    assert torch.equal(read(ids), model(ids))
