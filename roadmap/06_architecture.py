# %% [markdown]
# # 6. The architecture
#
# A GPT has four parts: a token embedding, a stack of identical blocks, a norm and a head. In this
# project one class implements GPT-2, the Llama family and a small fast model. The config decides
# which.

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

torch.set_num_threads(1)  # more threads do not speed up matrices this small

# %% [markdown]
# ## Count the parameters of GPT-2
# Courses build GPT-2 "small" without biases for queries, keys and values. With the head tied to the
# token embedding it then has 124,412,160 parameters, and 163,009,536 with an untied head. The
# published weights include these biases: 124,439,808 parameters.

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
# ## The default model
# It has RMSNorm, rotary embeddings, QK norm, a gated MLP, no biases and a tied head. Each block
# starts as the identity, so the first predictions are nearly uniform, and the first loss is
# ln(vocabulary size).

# %%
config = GPTConfig(vocab_size=500, context_length=64, d_model=64, n_layers=3, n_heads=4)
model = GPT(config, seed=1)
print(model)
built = sum(parameter.numel() for parameter in model.parameters())
assert built == count_parameters(config)

ids = torch.randint(500, (2, 65), generator=torch.Generator().manual_seed(0))
inputs, targets = ids[:, :-1], ids[:, 1:]
logits = model(inputs)
assert logits.shape == (2, 64, 500), "one logit for each token of the vocabulary at each position"
first_loss = model.loss(inputs, targets).item()
print(f"first loss {first_loss:.3f}, ln(500) = {math.log(500):.3f}")
assert abs(first_loss - math.log(500)) < 0.1

# %% [markdown]
# ## Outputs depend only on earlier tokens
# Every block reads the residual stream and adds to it. If the tokens from position 10 on are
# replaced, the outputs before position 10 do not change. This is why one forward pass can train all
# 64 positions at once.

# %%
changed = inputs.clone()
changed[:, 10:] = 0
assert torch.allclose(model(changed)[:, :10], logits[:, :10], atol=1e-5)
print("tokens from position 10 on do not change the outputs before it")

# %% [markdown]
# ## Train for a few steps
# A few optimizer steps on one batch are enough to reduce the loss.

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
# ## Compute and memory
# Both follow from the config, so they are known before training.

# %%
memory = memory_bytes(config, batch_size=16)
print(f"{flops_per_token(config) / 1e6:.2f} million FLOPs to train on one token")
print(f"{memory.total_bytes / 2**20:.1f} MiB at batch size 16, of which logits "
      f"{memory.logits_bytes / 2**20:.1f} MiB")  # fmt: skip
assert flops_per_token(config) > 6 * sum(
    n for part, n in parameters_by_part(config).items() if part in ("attention", "mlp")
)
