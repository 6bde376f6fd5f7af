# %% [markdown]
# # 9. Pretrained weights
#
# A model is its config and its numbers. Whoever has both has the model, under any name: here a
# model of ours goes out as a Hugging Face folder and comes back, and the random numbers of a
# GPT-2 in their format become ours.

# %%
import json
import tempfile
from pathlib import Path

import torch

from groundup.base.errors import UserError
from groundup.generation.engine import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import load_model, save_model
from groundup.weights.huggingface import export_huggingface, import_huggingface

place = tempfile.TemporaryDirectory()
folder = Path(place.name)
ids = torch.randint(100, (1, 16), generator=torch.Generator().manual_seed(0))

# %% [markdown]
# ## Our own files
# `model.json` says what it is and holds the checksum of `model.safetensors`, the numbers. No
# pickle: reading a model cannot run code. One flipped bit is found.

# %%
config = GPTConfig(vocab_size=100, context_length=32, d_model=32, n_layers=2, n_heads=4)
model = GPT(config, seed=7).eval()
save_model(model, folder / "ours")
print(sorted(file.name for file in (folder / "ours").iterdir()))
back = load_model(folder / "ours").eval()
assert torch.equal(back(ids), model(ids))

weights = folder / "ours" / "model.safetensors"
damaged = bytearray(weights.read_bytes())
damaged[-1] ^= 1
weights.write_bytes(damaged)
try:
    load_model(folder / "ours")
    raise AssertionError("a damaged model was read")
except UserError as error:
    print("refused:", str(error).replace(str(folder), "..."))

# %% [markdown]
# ## Out as a Hugging Face folder
# Our small model with its normed queries and keys is, number for number, what the `transformers`
# library calls Qwen3. Without them it is Llama. What is one matrix here (queries, keys, values)
# is three there.

# %%
export_huggingface(model, folder / "huggingface")
about = json.loads((folder / "huggingface" / "config.json").read_text())
print(about["architectures"], {k: about[k] for k in ("hidden_size", "num_hidden_layers")})
assert about["architectures"] == ["Qwen3ForCausalLM"]
returned = import_huggingface(folder / "huggingface").eval()
difference = (returned(ids) - model(ids)).abs().max().item()
print(f"largest difference of any logit after the round trip: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## GPT-2's names
# The published GPT-2 keeps its matrices transposed and calls its parts wte, wpe, h, ln_1, c_attn.
# Reading it is renaming and transposing. (Here a tiny GPT-2 with random numbers; a folder with
# the real ones opens the same way: `groundup import path/to/gpt2`.)

# %%
tiny = GPTConfig(
    vocab_size=100, context_length=32, d_model=32, n_layers=2, n_heads=4,
    norm="layer", norm_eps=1e-5,
    positions="learned", qk_norm=False, activation="gelu", bias=True, qkv_bias=True, init="gpt2",
)  # fmt: skip
gpt2 = GPT(tiny, seed=3).eval()
export_huggingface(gpt2, folder / "gpt2")
again = import_huggingface(folder / "gpt2").eval()
assert again.config.norm == "layer"
assert torch.equal(again(ids), gpt2(ids))
text = generate(gpt2, [1, 2, 3], 10, seed=1)
assert generate(again, [1, 2, 3], 10, seed=1) == text
print("the same ten tokens from both:", text)

try:
    transformers = __import__("transformers")
except ImportError:
    print("transformers is not installed here: the comparison with it is left out")
else:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "gpt2").eval()
    with torch.no_grad():
        difference = (theirs(ids).logits - gpt2(ids)).abs().max().item()
    print(f"transformers opens the folder; largest difference of any logit: {difference:.1e}")
    assert difference < 1e-4
place.cleanup()
