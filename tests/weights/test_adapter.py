"""Adapters in the format of peft: both projects compute the same with each other's files."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_models import CONFIGS, lively
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import peer
from safetensors.torch import load_file, save_file

from groundup.base.errors import UserError
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, has_lora, lora_layers, lora_parameters, merge_lora
from groundup.model.lora_config import LoRAConfig, Target
from groundup.weights.adapter import load_adapter, save_adapter, weights_sha256
from groundup.weights.huggingface import export_huggingface

IDS = torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(3))
FAMILIES = ("llama", "interleaved", "qwen3", "gpt2")
VARIANTS = ("lora", "rslora", "dora")


def trained(family: str, config: LoRAConfig) -> GPT:
    """A model whose adapters have random weights, as after training."""
    model = lively(CONFIGS[family])
    add_lora(model, config, seed=1)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in lora_parameters(model).items():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.1 * noise if "lora" in name else 0.1 * parameter * noise
    return model


def base_folder(family: str, folder: Path) -> Path:
    """The base as transformers opens it."""
    export_huggingface(lively(CONFIGS[family]), folder)
    return folder


def transformers_model(folder: Path) -> Any:
    transformers = peer("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@torch.inference_mode()
def difference(ours: GPT, theirs: Any) -> float:
    return (ours.eval()(IDS) - theirs.eval()(IDS).logits).abs().max().item()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_computes_the_same_with_our_adapter(tmp_path: Path, family: str, variant: Any) -> None:
    peft = peer("peft")
    model = trained(family, LoRAConfig(rank=3, alpha=5.0, variant=variant))
    base = transformers_model(base_folder(family, tmp_path / "base"))
    with torch.inference_mode():
        changed = (model(IDS) - base(IDS).logits).abs().max()
    assert changed > 0.1
    save_adapter(model, tmp_path / "adapter", base_name=str(tmp_path / "base"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # peft warns of missing and of unknown tensors
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert difference(model, theirs) < 1e-5
    assert difference(model, theirs.merge_and_unload()) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_of_peft_computes_the_same_here(
    tmp_path: Path, family: str, variant: str
) -> None:
    peft = peer("peft")
    base = transformers_model(base_folder(family, tmp_path / "base"))
    suffixes = ["c_attn", "c_fc"] if family == "gpt2" else ["q_proj", "v_proj", "down_proj"]
    about = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=suffixes,
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
        rank_pattern={suffixes[1]: 2},
        alpha_pattern={suffixes[0]: 3},
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(0)
    theirs = peft.get_peft_model(base, about)
    for name, parameter in theirs.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1 + 0.1 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "adapter")
    model = lively(CONFIGS[family])
    load_adapter(model, tmp_path / "adapter")
    assert difference(model, theirs) < 1e-5
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(
        lora_parameters(model)
    )
    # Written by us and read by peft again.
    save_adapter(model, tmp_path / "again")
    again = peft.PeftModel.from_pretrained(
        transformers_model(tmp_path / "base"), tmp_path / "again"
    )
    assert difference(model, again) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", CONFIGS)
def test_an_adapter_is_read_back(tmp_path: Path, family: str, variant: Any) -> None:
    targets: tuple[Target, ...] = ("query", "value", "up", "down")
    model = trained(family, LoRAConfig(rank=2, targets=targets, variant=variant, dropout=0.5))
    save_adapter(model, tmp_path / "adapter")
    back = lively(CONFIGS[family])
    load_adapter(back, tmp_path / "adapter")
    assert next(iter(lora_layers(back).values())).config.dropout == 0.5
    with torch.inference_mode():
        torch.testing.assert_close(back(IDS), model(IDS), atol=1e-5, rtol=0)
        torch.testing.assert_close(merge_lora(back)(IDS), model(IDS), atol=1e-4, rtol=0)


def test_the_hash_of_the_base_is_the_same_in_bfloat16_and_with_adapters() -> None:
    model = lively(CONFIGS["llama"])
    before = weights_sha256(model)
    add_lora(model.bfloat16(), LoRAConfig(rank=2), seed=0)
    assert weights_sha256(model) == before
    model.token_embedding.weight.data[3] += 1
    assert weights_sha256(model) != before


# --- adapters that are refused -------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    save_adapter(
        trained("llama", LoRAConfig(rank=3)), tmp_path / "adapter", base_name="runs/shakespeare"
    )
    return tmp_path / "adapter"


def refused(folder: Path, model: GPT | None = None) -> str:
    model = lively(CONFIGS["llama"]) if model is None else model
    with pytest.raises(UserError) as error:
        load_adapter(model, folder)
    assert not has_lora(model)
    return error.value.located


def rewrite(folder: Path, **fields: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def rewrite_tensors(folder: Path, change: Any) -> Path:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_another_base_of_the_same_shapes_is_refused(adapter: Path) -> None:
    other = lively(CONFIGS["llama"])
    other.token_embedding.weight.data[0] += 1
    message = refused(adapter, other)
    assert "another base (runs/shakespeare)" in message
    load_adapter(other, adapter, any_base=True)


def test_a_base_of_other_shapes_is_refused_with_the_shapes(adapter: Path) -> None:
    message = refused(adapter, lively(CONFIGS["interleaved"]))
    assert "has shape (24, 3), and (40, 3) is expected" in message
    assert "belongs to no linear map" in refused(adapter, lively(CONFIGS["gpt2"]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"bias": "all"}, "biases of the base are trained"),
        ({"modules_to_save": ["lm_head"]}, "whole modules are trained"),
        ({"lora_bias": True}, "the adapters have biases"),
        ({"layer_replication": [[0, 2]]}, "layers of the base are repeated"),
        ({"trainable_token_indices": [1]}, "rows of the token embedding"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"init_lora_weights": "pissa"}, "the weights of the base were changed"),
        ({"use_quantum": True}, "use_quantum is 'True'"),
        ({"use_dora": True, "use_rslora": True}, "At most one of them"),
        ({"use_dora": "yes"}, "true or false is expected"),
        ({"r": 0}, "r is '0'"),
        ({"r": 10**9}, "r is '1000000000'"),
        ({"r": 5}, "(5, 24) is expected for rank 5"),
        ({"lora_alpha": float("nan")}, "lora_alpha is 'nan'"),
        ({"lora_alpha": "x"}, "lora_alpha is 'x'"),
        ({"lora_dropout": 1}, "lora_dropout is '1'"),
        ({"rank_pattern": {"(a+)+$": 3}}, "regular expressions are not supported"),
        ({"rank_pattern": {"q_proj": 1.5}}, "rank_pattern q_proj is '1.5'"),
        ({"alpha_pattern": [1]}, "alpha_pattern is not a table"),
        ({"use_dora": True}, "lora_magnitude_vector is missing"),
    ],
)
def test_a_field_that_changes_the_result_is_refused(
    adapter: Path, fields: dict[str, Any], words: str
) -> None:
    assert words in refused(rewrite(adapter, **fields))


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
_FIELDS = (
    *("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern"),
    *("alpha_pattern", "base_model_name_or_path", "bias", "init_lora_weights", "target_modules"),
)


@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _VALUES, min_size=1, max_size=2))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_a_field_is_honored_or_refused(adapter: Path, fields: dict[str, Any]) -> None:
    file = adapter / "adapter_config.json"
    before = file.read_text()
    try:
        load_adapter(lively(CONFIGS["llama"]), rewrite(adapter, **fields))
    except UserError:
        pass
    finally:
        file.write_text(before)


def test_unknown_fields_without_a_value_are_accepted(adapter: Path) -> None:
    load_adapter(lively(CONFIGS["llama"]), rewrite(adapter, future=None, other=False, more={}))


@pytest.mark.parametrize("name", ["lm_head.lora_A.weight", "model.embed_tokens.lora_embedding_A"])
def test_an_adapter_of_a_tied_embedding_is_refused_with_the_reason(
    adapter: Path, name: str
) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors[f"base_model.model.{name}"] = torch.zeros(3, 24)

    rewrite_tensors(adapter, change)
    tied = lively(dataclasses.replace(CONFIGS["llama"], tie_embeddings=True))
    message = refused(adapter, tied)
    assert "one weight, so an adapter of one would change both" in message
    assert "are not supported" in refused(adapter)


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"

MAGNITUDE = FIRST.replace("lora_A.weight", "lora_magnitude_vector")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(FIRST), "down_proj.lora_A.weight is missing"),
        (lambda t: t.update({FIRST: t[FIRST].int()}), "is of type I32"),
        (lambda t: t.update({FIRST: t[FIRST] * float("nan")}), "NaN or infinite"),
        (lambda t: t.update({FIRST.replace("0", "7"): t[FIRST].clone()}), "It has 2 layers"),
        (lambda t: t.update({MAGNITUDE: torch.ones(24)}), "is there"),
        (lambda t: t.clear(), "has no adapters"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused_by_name(
    adapter: Path, change: Any, words: str
) -> None:
    assert words in refused(rewrite_tensors(adapter, change))


def test_a_pickle_file_is_not_read(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "can run code" in refused(adapter)


def test_a_cut_file_and_a_missing_one_are_refused(adapter: Path, tmp_path: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert "It is cut" in refused(adapter)
    file.unlink()
    assert "This file is missing" in refused(adapter)
    assert "There is no adapter here" in refused(tmp_path)
    (adapter / "adapter_config.json").write_text("[1]")
    assert "peft_type is None" in refused(adapter)


def test_a_second_adapter_is_refused(adapter: Path) -> None:
    model = trained("llama", LoRAConfig(rank=2))
    with pytest.raises(UserError, match="has LoRA adapters already"):
        load_adapter(model, adapter)
    with pytest.raises(UserError, match="no LoRA adapters"):
        save_adapter(lively(CONFIGS["llama"]), adapter)
