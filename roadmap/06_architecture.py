# %% [markdown]
# # 6. The architecture
#
# A GPT is short: a table of tokens, a stack of equal blocks, a norm, a head. One class is GPT-2,
# the Llama family and the small fast model of this project, as its config says.

# %%
import math

import torch

from groundup.model.config import GPTConfig
from groundup.model.count import (
    count_parameters,
    flops_per_token,
    memory_bytes,
    parameters_by_part,
)
from groundup.model.gpt import GPT

torch.set_num_threads(1)  # matrices this small gain nothing from more

# %% [markdown]
# ## GPT-2, counted before it is built
# With its head tied to the token table and without biases on queries, keys and values, as it is
# built in courses, GPT-2 "small" has 124,412,160 parameters, and 163,009,536 with a head of its
# own. The published weights have these biases too: 124,439,808.

# %%
plain = GPTConfig.gpt2("124M", qkv_bias=False)
untied = GPTConfig.gpt2("124M", qkv_bias=False, tie_embeddings=False)
print(f"tied {count_parameters(plain):,}   untied {count_parameters(untied):,}")
for part, n in parameters_by_part(plain).items():
    print(f"  {part:12} {n:12,}")
assert count_parameters(plain) == 124_412_160
assert count_parameters(untied) == 163_009_536
assert count_parameters(GPTConfig.gpt2("124M")) == 124_439_808

# %% [markdown]
# ## Our own small model
# Root-mean-square norms, rotary positions, normed queries and keys, a gated MLP, no biases, a
# tied head. Each block starts as the identity, so the first guess is uniform and the first loss
# is ln(vocabulary).

# %%
config = GPTConfig(vocab_size=500, context_length=64, d_model=64, n_layers=3, n_heads=4)
model = GPT(config, seed=1)
print(model)
built = sum(parameter.numel() for parameter in model.parameters())
assert built == count_parameters(config)

ids = torch.randint(500, (2, 65), generator=torch.Generator().manual_seed(0))
inputs, targets = ids[:, :-1], ids[:, 1:]
logits = model(inputs)
assert logits.shape == (2, 64, 500), "one number for each token of the vocabulary at each position"
first_loss = model.loss(inputs, targets).item()
print(f"first loss {first_loss:.3f}, ln(500) = {math.log(500):.3f}")
assert abs(first_loss - math.log(500)) < 0.1

# %% [markdown]
# ## The stream
# Every block reads the stream and adds to it. Cut the text after position 10 and nothing before
# it changes: that is what lets one pass train all 64 positions at once.

# %%
cut = inputs.clone()
cut[:, 10:] = 0
assert torch.allclose(model(cut)[:, :10], logits[:, :10], atol=1e-5)
print("what follows position 10 changes nothing before it")

# %% [markdown]
# ## It learns
# A few steps on one batch: every parameter moves, the loss falls.

# %%
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(30):
    loss = model.loss(inputs, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step:2}: loss {loss.item():.3f}")
assert loss.item() < first_loss / 2

# %% [markdown]
# ## What it costs
# Known before anything is spent.

# %%
memory = memory_bytes(config, batch_size=16)
print(f"{flops_per_token(config) / 1e6:.2f} million operations to train on one token")
print(f"{memory.total_bytes / 2**20:.1f} MiB at batch size 16, of which logits "
      f"{memory.logits_bytes / 2**20:.1f} MiB")  # fmt: skip
assert flops_per_token(config) > 6 * sum(
    n for part, n in parameters_by_part(config).items() if part in ("attention", "mlp")
)
