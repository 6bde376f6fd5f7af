"""Import and export give the logits of transformers, for tiny models with random weights."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.huggingface import export_huggingface
from groundup.weights.huggingface_folder import import_huggingface

pytestmark = pytest.mark.parity

SMALL: dict[str, Any] = {
    "vocab_size": 61, "context_length": 24, "d_model": 32, "n_layers": 2, "n_heads": 4
}  # fmt: skip
# float32 sums in another order; logits here are of size 1 to 10.
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def ids(vocab_size: int = 61) -> torch.Tensor:
    return torch.randint(vocab_size, (2, 24), generator=torch.Generator().manual_seed(3))


def shaken(model: torch.nn.Module) -> Any:
    """Set weights large enough that each of them changes the logits."""
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(0.2 * noise + (parameter.ndim == 1))
    return model.eval()


def theirs(kind: str, **changes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    shared: dict[str, Any] = {"vocab_size": 61, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        config = transformers.GPT2Config(
            **{**shared, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, **changes}
        )
        return shaken(transformers.GPT2LMHeadModel(config))
    shared |= {
        "max_position_embeddings": 24, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    if kind == "llama":
        return shaken(
            transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**shared, **changes}))
        )
    return shaken(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{**shared, **changes})))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {}),
        ("gpt2", {"tie_word_embeddings": False, "n_inner": 40}),
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": True, "head_dim": 12}),
    ],
)
def test_import_gives_their_logits(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    original = theirs(kind, **changes)
    original.save_pretrained(tmp_path)
    ours = import_huggingface(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids()), original(ids()).logits, **TOLERANCE)


def test_import_reads_shards_and_another_rotary_base(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    original = theirs("llama", rope_parameters=rope, rope_theta=500_000.0)
    original.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours = import_huggingface(tmp_path).eval()
    assert ours.config.rotary_base == 500_000.0
    with torch.no_grad():
        torch.testing.assert_close(ours(ids()), original(ids()).logits, **TOLERANCE)


GPT2 = GPTConfig(
    **SMALL, norm="layer", norm_eps=1e-5, positions="learned", qk_norm=False, activation="gelu",
    bias=True, qkv_bias=True,
)  # fmt: skip
GPT2_PLAIN = GPTConfig(
    **SMALL, norm="layer", norm_eps=1e-5, positions="learned", qk_norm=False, activation="gelu",
    bias=True, tie_embeddings=False,
)  # fmt: skip
EXPORTS = [
    (GPTConfig(**SMALL), "Qwen3ForCausalLM"),  # our own default
    (GPTConfig(**SMALL, rotary_layout="interleaved", n_kv_heads=2), "Qwen3ForCausalLM"),
    (GPTConfig.llama(**{**SMALL, "n_kv_heads": 2, "d_ff": 40}), "LlamaForCausalLM"),
    (
        GPTConfig.llama(**SMALL, rotary_layout="interleaved", rotary_base=1e6, tie_embeddings=True),
        "LlamaForCausalLM",
    ),
    (GPT2, "GPT2LMHeadModel"),
    (GPT2_PLAIN, "GPT2LMHeadModel"),
]


@pytest.mark.parametrize(("config", "model_class"), EXPORTS)
def test_export_gives_our_logits_there_and_back(
    tmp_path: Path, config: GPTConfig, model_class: str
) -> None:
    transformers = pytest.importorskip("transformers")
    ours = shaken(GPT(config))
    export_huggingface(ours, tmp_path / "out", end_of_text_id=7)
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(there).__name__ == model_class
    assert there.config.eos_token_id == 7
    back = import_huggingface(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(there(ids()).logits, ours(ids()), **TOLERANCE)
        torch.testing.assert_close(back(ids()), ours(ids()), **TOLERANCE)


def test_the_layout_matters() -> None:
    # If the two rotary layouts gave the same logits, the export tests above would prove nothing.
    half, interleaved = (
        shaken(GPT(GPTConfig(**SMALL, rotary_layout=layout))) for layout in ("half", "interleaved")
    )
    assert not torch.allclose(half(ids()), interleaved(ids()), atol=1e-2)


@pytest.mark.parametrize("choice", [{"activation": "gelu"}, {"ngram": 3, "ngram_rows": 64}])
def test_settings_that_transformers_lacks_are_refused(
    tmp_path: Path, choice: dict[str, Any]
) -> None:
    mixed = GPT(GPTConfig(**SMALL, **choice))
    with pytest.raises(UserError, match="no class of transformers"):
        export_huggingface(mixed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_foreign_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis.txt"):
        export_huggingface(GPT(EXPORTS[0][0]), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mamba"}, "gpt2, llama, mistral, qwen2 or qwen3"),
        ({"attention_bias": True}, r"Missing weights .*: blocks.0.attention.out.bias"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'factor' is missing"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "'factor' is missing"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "'longrope' rule"),
        ({"rope_parameters": {"mrope_section": [2, 1, 1]}}, "the setting mrope_section"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"sliding_window": 8}, "sliding_window is 8"),
        ({"num_hidden_layers": 3}, r"Missing weights .*: blocks.2"),
        ({"vocab_size": 62}, r"token_embedding.weight has shape \(61, 32\)"),
    ],
)
def test_unsupported_configs_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    export_huggingface(GPT(EXPORTS[2][0]), tmp_path)
    about = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=said):
        import_huggingface(tmp_path)


def test_missing_entries_files_and_pickles_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config.json"):
        import_huggingface(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="'vocab_size' is missing"):
        import_huggingface(tmp_path)
    export_huggingface(GPT(GPT2), tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="contains no weights"):
        import_huggingface(tmp_path / "out")
    (tmp_path / "out" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a pickle \(pytorch_model.bin\)"):
        import_huggingface(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(UserError, match="not a valid safetensors file"):
        import_huggingface(tmp_path / "out")


def sharded(folder: Path, *names: object) -> Path:
    """Export a model, and split its weights in two shards with these names in the index."""
    export_huggingface(GPT(GPT2), folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(tensors)
    weight_map: dict[str, object] = {}
    for shard in range(2):
        save_file({key: tensors[key] for key in keys[shard::2]}, folder / f"{shard}.safetensors")
        weight_map |= dict.fromkeys(keys[shard::2], names[shard])
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards_inside_the_folder_are_read(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "out", "0.safetensors", "./sub/../1.safetensors")
    (folder / "sub").mkdir()
    assert import_huggingface(folder).config.n_layers == 2


@pytest.mark.parametrize(
    "name",
    [
        "../stolen.safetensors",
        "sub/../../stolen.safetensors",
        "{outside}/stolen.safetensors",
        "1.bin",
        "1\0.safetensors",
        "",
    ],
)
def test_a_shard_outside_the_folder_is_refused_by_name_before_any_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    name = name.format(outside=tmp_path)
    folder = sharded(tmp_path / "out", "0.safetensors", name)
    (folder / "1.safetensors").rename(tmp_path / "stolen.safetensors")
    opened: list[Path] = []
    monkeypatch.setattr("groundup.weights.huggingface_folder.read_header", opened.append)
    with pytest.raises(UserError, match=re.escape(f"{name!r} is refused")) as caught:
        import_huggingface(folder)
    assert caught.value.where == folder / "model.safetensors.index.json"
    assert not opened


@pytest.mark.parametrize("name", ["1.safetensors", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    if name == "model.safetensors":
        folder = tmp_path / "out"
        export_huggingface(GPT(GPT2), folder)
    else:
        folder = sharded(tmp_path / "out", "0.safetensors", name)
    (folder / name).rename(tmp_path / "elsewhere.safetensors")
    (folder / name).symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match=re.escape(f"{name!r} is refused")):
        import_huggingface(folder)


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "merges.txt", "README.md"])
def test_a_text_file_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    export_huggingface(GPT(GPT2), folder)
    (folder / "inside.txt").write_text("a text")
    (folder / "vocab.txt").symlink_to("inside.txt")
    assert import_huggingface(folder).config.n_layers == 2
    file = tmp_path / "secret"
    file.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"a secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(file)
    with pytest.raises(UserError, match=rf"{re.escape(name)}: This is a link to .*secret, outside"):
        import_huggingface(folder)


def test_the_links_of_the_hugging_face_cache_are_read(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "snapshots" / "0a1b", "0.safetensors", "1.safetensors")
    (tmp_path / "blobs").mkdir()
    for file in list(folder.iterdir()):
        file.rename(tmp_path / "blobs" / file.name)
        file.symlink_to(Path("..", "..", "blobs", file.name))
    assert import_huggingface(folder).config.n_layers == 2


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": ["0.safetensors"]}, {"weight_map": {"a": 1}}]
)
def test_an_index_without_file_names_is_refused(tmp_path: Path, index: object) -> None:
    folder = sharded(tmp_path / "out", "0.safetensors", "1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="Expected a weight_map") as caught:
        import_huggingface(folder)
    assert caught.value.where == folder / "model.safetensors.index.json"


@pytest.mark.parametrize(
    "content",
    [
        "[]", "3", "null", '{"model_type": "llama", "rope_parameters": [1]}',
        '{"model_type": ["gpt2"]}', '{"model_type": "gpt2", "vocab_size": "many"}',
    ],
)  # fmt: skip
def test_a_config_with_wrong_types_is_named(tmp_path: Path, content: str) -> None:
    export_huggingface(GPT(GPT2), tmp_path / "out")
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    new = json.loads(content)
    (tmp_path / "out" / "config.json").write_text(
        json.dumps({**about, **new} if isinstance(new, dict) else new)
    )
    with pytest.raises(UserError) as caught:
        import_huggingface(tmp_path / "out")
    assert "config.json" in str(caught.value)


def test_a_folder_that_is_not_there_or_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no folder of this name.*hf download"):
        import_huggingface(tmp_path / "gpt2")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="This is a file"):
        import_huggingface(tmp_path / "config.json")


@pytest.mark.parametrize("entry", ["n_head", "n_embd", "n_layer", "n_positions", "vocab_size"])
@pytest.mark.parametrize("value", [None, 0, -1, "12", [3], 1.5])
def test_every_wrong_size_is_a_sentence(tmp_path: Path, entry: str, value: Any) -> None:
    export_huggingface(GPT(GPT2), tmp_path / "out")
    about = json.loads((tmp_path / "out" / "config.json").read_text()) | {entry: value}
    (tmp_path / "out" / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError):
        import_huggingface(tmp_path / "out")
