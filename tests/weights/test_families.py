"""Every family computes what transformers computes: logits, loss and gradients, and back again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peers import peer

from groundup.base.errors import UserError
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig, RotaryScaling
from groundup.model.gpt import GPT
from groundup.weights import gpt2, llama
from groundup.weights.huggingface import export_huggingface
from groundup.weights.huggingface_folder import import_huggingface, open_huggingface

pytestmark = pytest.mark.parity

V = 61
GPT2 = {"model_type": "gpt2", "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}
LLAMA = {
    "model_type": "llama", "max_position_embeddings": 48, "hidden_size": 32,
    "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rope_theta": 10_000.0, "rms_norm_eps": 1e-5,
}  # fmt: skip
MISTRAL, QWEN2, QWEN3 = ({**LLAMA, "model_type": t} for t in ("mistral", "qwen2", "qwen3"))
SLIDING = {"use_sliding_window": True, "sliding_window": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt2 untied, another width": {**GPT2, "tie_word_embeddings": False, "n_inner": 40},
    "gpt2 exact gelu": {**GPT2, "activation_function": "gelu", "layer_norm_epsilon": 1e-3},
    "llama 2": {**LLAMA, "num_key_value_heads": 4},
    "llama one key head, tied": {**LLAMA, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "llama wide heads": {**LLAMA, "head_dim": 16, "rope_theta": 500_000.0},
    "llama attention_bias": {**LLAMA, "attention_bias": True},
    "llama mlp_bias": {**LLAMA, "mlp_bias": True},
    "llama all biases": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "mistral": {**MISTRAL, "sliding_window": 8},
    "mistral without a window": {**MISTRAL, "sliding_window": None},
    "mistral window by default": {**MISTRAL},
    "qwen2 tied": {**QWEN2, "tie_word_embeddings": True},
    "qwen2 window in upper layers": {**QWEN2, **SLIDING, "max_window_layers": 1},
    "qwen2 layer types": {
        **QWEN2, **SLIDING, "layer_types": ["sliding_attention", "full_attention"] * 1
        + ["sliding_attention"],
    },
    "qwen2 window off": {**QWEN2, "sliding_window": 8, "use_sliding_window": False},
    "qwen3 tied": {**QWEN3, "head_dim": 12, "tie_word_embeddings": True},
    "qwen3 head_dim by default": QWEN3,
    "qwen3 window": {**QWEN3, "head_dim": 8, **SLIDING, "max_window_layers": 0},
    "qwen3 attention_bias": {**QWEN3, "head_dim": 8, "attention_bias": True},
}  # fmt: skip


def written(folder: Path, about: dict[str, Any]) -> Any:
    """Write a random model of theirs into a folder, with this config.json as it is."""
    transformers = peer("transformers")
    about = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": 0, **about}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(about))
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(0.1 * noise + (parameter.ndim == 1))
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(about))
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def some_ids(n: int = 40) -> torch.Tensor:
    return torch.randint(V, (2, n), generator=torch.Generator().manual_seed(3))


def check_training(ours: GPT, theirs: Any, about: dict[str, Any]) -> None:
    """Compare logits, loss and the gradient of every parameter."""
    ids = some_ids()
    there = theirs(ids, labels=ids)
    torch.testing.assert_close(ours(ids), there.logits, rtol=1e-5, atol=1e-5)
    loss = ours.loss(ids[:, :-1], ids[:, 1:])
    assert loss.item() == pytest.approx(there.loss.item(), rel=1e-5)
    loss.backward()
    there.loss.backward()
    gradients = {
        llama.their_name(n.removeprefix("transformer.")): p.grad
        for n, p in theirs.named_parameters()
    }
    is_gpt2 = about["model_type"] == "gpt2"
    own = dict(ours.named_parameters())
    for source in gpt2.sources(ours.config) if is_gpt2 else llama.sources(ours.config, about):
        if source.parts:
            expected = torch.cat([gradients[part] for part, _ in source.parts])
            expected = expected.t() if source.transposed else expected
            torch.testing.assert_close(own[source.our].grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_gradients_equal_theirs(tmp_path: Path, name: str) -> None:
    theirs = written(tmp_path / "hf", FAMILIES[name])
    check_training(import_huggingface(tmp_path / "hf"), theirs, FAMILIES[name])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "qwen3 attention_bias"])
def test_an_export_has_equal_logits_there_and_equal_weights_here(tmp_path: Path, name: str) -> None:
    transformers = peer("transformers")
    theirs = written(tmp_path / "hf", FAMILIES[name])
    ours = import_huggingface(tmp_path / "hf")
    export_huggingface(ours, tmp_path / "out")
    there, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(info.values()), info
    back = import_huggingface(tmp_path / "out")
    with torch.no_grad():
        expected = theirs(some_ids()).logits
        torch.testing.assert_close(there(some_ids()).logits, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(back(some_ids()), ours(some_ids()))
    assert there.config.model_type in (FAMILIES[name]["model_type"], "llama")
    before, after = ours.state_dict(), back.state_dict()
    added = after.keys() - before.keys()  # one switch of theirs adds biases in several places
    assert before.keys() <= after.keys()
    assert not any(after[n].any() for n in added)
    assert all(torch.equal(before[n], after[n]) for n in before)


# Scaled rotary positions

SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096},
    "yarn with mscale": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
        "mscale": 1.0, "mscale_all_dim": 0.5, "beta_fast": 16, "beta_slow": 2, "truncate": False,
    },
    "yarn with attention_factor": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
        "attention_factor": 1.3,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("spelling", ["old", "new"])
def test_scaled_positions_equal_theirs_near_and_far(
    tmp_path: Path, name: str, spelling: str
) -> None:
    peer("transformers", major=5)
    scaling, base = SCALINGS[name], 500_000.0
    about = {
        **LLAMA, "max_position_embeddings": 16_384, "num_hidden_layers": 1, "hidden_size": 32,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    }  # fmt: skip
    del about["rope_theta"]
    if spelling == "old":
        about |= {"rope_theta": base, "rope_scaling": scaling}
    else:
        about |= {"rope_parameters": {**scaling, "rope_theta": base}}
    theirs = written(tmp_path / "hf", about)
    ours = import_huggingface(tmp_path / "hf")
    ids = torch.randint(V, (1, 9017), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        for places in (slice(0, 17), slice(9000, 9017)):
            # Between two positions of the same distance nothing changes with an unscaled rotation,
            # so whole texts are compared.
            expected = theirs.model(ids).last_hidden_state[:, places]
            torch.testing.assert_close(ours.hidden(ids)[:, places], expected, rtol=1e-5, atol=1e-5)
    check_training(ours, theirs, about)
    export_huggingface(ours, tmp_path / "out")
    assert import_huggingface(tmp_path / "out").config == ours.config
    peer("transformers")
    from transformers import AutoModelForCausalLM

    there = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.inference_mode():
        found = there.model(ids[:, :40]).last_hidden_state
        torch.testing.assert_close(
            found, theirs.model(ids[:, :40]).last_hidden_state, rtol=1e-5, atol=1e-5
        )


def test_old_names_of_the_kind_and_a_missing_original_context_are_read(tmp_path: Path) -> None:
    scaling = {"type": "yarn", "factor": 4.0}
    about = {**LLAMA, "rope_scaling": scaling}
    theirs = written(tmp_path / "hf", about)
    with torch.inference_mode():
        expected = theirs(some_ids()).logits
        found = import_huggingface(tmp_path / "hf")(some_ids())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mistral", "qwen2 window in upper layers", "qwen3 tied"])
def test_forty_greedy_tokens_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    theirs = written(tmp_path / "hf", {**FAMILIES[name], "eos_token_id": None})
    ours = import_huggingface(tmp_path / "hf").eval()
    prompt = some_ids(8)[:1]
    expected = theirs.generate(prompt, max_new_tokens=40, do_sample=False, pad_token_id=0)
    assert generate(ours, prompt[0].tolist(), 40, temperature=0) == expected[0, 8:].tolist()


# What is refused


def changed(folder: Path, **changes: Any) -> Path:
    about = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        (MISTRAL, {"layer_types": ["full_attention"] * 3}, "layer_types has full_attention"),
        (QWEN2, {"layer_types": ["sliding_attention"] * 3}, "use_sliding_window is off"),
        (QWEN2, {**SLIDING, "layer_types": ["sliding_attention"]}, "layer_types has 1 entries"),
        (QWEN2, {**SLIDING, "layer_types": ["chunked_attention"] * 3}, "chunked_attention"),
        (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' rule"),
        (
            LLAMA,
            {
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "linear", "factor": 4.0},
            },
            "factor differs between",
        ),
        (QWEN2, {**SLIDING, "num_hidden_layers": 10**15}, "At most 10,000 are expected"),
        (LLAMA, {"vocab_size": 10**15}, "describes a model of"),
        (LLAMA, {"num_attention_heads": 0}, "wrong type or value"),
        (LLAMA, {"rope_theta": float("nan")}, "rotary_base is nan"),
        (LLAMA, {"rope_interleaved": True}, "rope_interleaved is True"),
        (LLAMA, {"intermediate_size": 41}, r"down_proj.weight .* \(32, 40\).* expects \(32, 41\)"),
        (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is"),
        (GPT2, {"scale_attn_weights": False}, "scale_attn_weights is False"),
    ],
)
def test_settings_that_change_the_result_are_refused_by_name(
    tmp_path: Path, family: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    written(tmp_path / "hf", family)
    with pytest.raises(UserError, match=said):
        open_huggingface(changed(tmp_path / "hf", **changes))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"vocab_size": ' + "9" * 10_000 + "}"])
def test_a_config_that_json_cannot_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="not valid JSON"):
        open_huggingface(tmp_path)


def test_unknown_settings_are_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "hf", LLAMA)
    import_huggingface(tmp_path / "hf")
    assert not caplog.messages
    import_huggingface(changed(tmp_path / "hf", flux_capacity=3))
    assert "unknown and not used: flux_capacity" in caplog.text


@pytest.mark.parametrize("family", [GPT2, QWEN2])
def test_a_tied_head_that_differs_is_named_and_an_equal_copy_is_fine(
    tmp_path: Path, family: dict[str, Any]
) -> None:
    written(tmp_path / "hf", {**family, "tie_word_embeddings": False})
    with pytest.raises(UserError, match=r"lm_head.weight that differs"):
        open_huggingface(changed(tmp_path / "hf", tie_word_embeddings=True))
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    embedding = next(name for name in tensors if name.endswith(("wte.weight", "tokens.weight")))
    tensors["lm_head.weight"] = tensors[embedding].clone()
    save_file(tensors, tmp_path / "hf" / "model.safetensors")
    model = import_huggingface(tmp_path / "hf")
    assert model.config.tie_embeddings
    assert isinstance(model, GPT)


def test_the_license_is_read(tmp_path: Path) -> None:
    written(tmp_path / "hf", LLAMA)
    assert open_huggingface(tmp_path / "hf").license is None
    readme = tmp_path / "hf" / "README.md"
    readme.write_text("---\nlibrary_name: transformers\nlicense: apache-2.0\n---\n# A model\n")
    assert open_huggingface(tmp_path / "hf").license == "apache-2.0"
    readme.write_text('---\nlicense: other\nlicense_name: "llama3"\n---\n')
    assert open_huggingface(tmp_path / "hf").license == "llama3"


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    written(folder, LLAMA)
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"is in a.safetensors and in b.safetensors"):
        open_huggingface(folder)


def test_no_other_layout_drops_a_window(tmp_path: Path) -> None:
    """GPT-2, nanoGPT, the book and the course have models without a window only."""
    from groundup import nanogpt
    from groundup.book.convert import from_gpt as to_book
    from groundup.cs336.model import from_gpt

    sizes: dict[str, Any] = {
        "vocab_size": 11, "context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2,
    }  # fmt: skip
    gpt2_like = GPTConfig(
        **sizes, norm="layer", norm_eps=1e-5, positions="learned", qk_norm=False,
        activation="gelu", bias=True, qkv_bias=True, sliding_window=4,
    )  # fmt: skip
    course_like = GPTConfig.llama(**sizes, n_kv_heads=None, d_ff=32, rotary_layout="interleaved")
    from_gpt(GPT(course_like))
    for convert, config in (
        (nanogpt.from_gpt, gpt2_like),
        (to_book, gpt2_like),
        (lambda model: export_huggingface(model, tmp_path / "out"), gpt2_like),
        (from_gpt, replace(course_like, sliding_window=4)),
        (from_gpt, replace(course_like, rotary_scaling=RotaryScaling(factor=2.0))),
    ):
        with pytest.raises(UserError):
            convert(GPT(config))


@pytest.mark.parametrize("first", [-(10**12), "1", True])
def test_a_number_of_layers_without_windows_that_is_none_is_refused(
    tmp_path: Path, first: object
) -> None:
    about = {**QWEN2, **SLIDING, "max_window_layers": first, "vocab_size": V}
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="max_window_layers is"):
        import_huggingface(tmp_path)
