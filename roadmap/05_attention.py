# %% [markdown]
# # 5. Attention
#
# To predict the next token, a model must use the tokens before it. Attention computes, for each
# position, how much information to take from each earlier position. This tutorial follows the
# formula step by step, then shows that the fast path of the model gives the same results.

# %%
import torch

from groundup.model.attention import (
    attention_formula,
    attention_fused,
    attention_weights,
    causal_mask,
)
from groundup.model.rotary import rotary_tables, rotate

generator = torch.Generator().manual_seed(123)
T, D = 5, 8  # five positions; vectors of eight numbers

# %% [markdown]
# ## Three vectors for each position
# A query (what this position looks for), a key (what it offers) and a value (what it passes on). In
# a model they are learned projections of the input; in this tutorial they are random. Their shape
# is (batch, heads, positions, width).

# %%
queries, keys, values = (torch.randn(1, 1, T, D, generator=generator) for _ in range(3))
scores = queries @ keys.transpose(-2, -1) / D**0.5
print("scores, one row for each query:\n", scores[0, 0].round(decimals=2))

# %% [markdown]
# ## The causal mask
# A position that could see the token it has to predict would only learn to copy it. So each
# position attends only to itself and to earlier positions.

# %%
print(causal_mask(T, T).int())
weights = attention_weights(queries, keys)
print("weights:\n", weights[0, 0].round(decimals=2))
assert torch.allclose(weights.sum(-1), torch.ones(1, 1, T)), "each row sums to one"
assert (weights[0, 0].triu(1) == 0).all(), "later positions have weight zero"
assert weights[0, 0, 0, 0] == 1, "the first position attends only to itself"

# %% [markdown]
# ## The weighted sum
# The output at each position is the sum of the values, weighted by its attention weights. This
# completes the formula: softmax(Q K^T / sqrt(D)) V. The fast path gives the same results without
# storing the T x T matrix.

# %%
output = attention_formula(queries, keys, values)
expected = sum(weights[0, 0, 3, s] * values[0, 0, s] for s in range(4))
assert torch.allclose(output[0, 0, 3], expected, atol=1e-6)
difference = (attention_fused(queries, keys, values) - output).abs().max().item()
print(f"largest difference between formula and fast path: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## Several heads, fewer key heads
# Heads run in parallel, and each can attend to different positions. In grouped-query attention
# several query heads share one key head, which makes the KV cache smaller. In this example 4 query
# heads share 2 key heads.

# %%
many = torch.randn(1, 4, T, D, generator=generator)
few_keys, few_values = (torch.randn(1, 2, T, D, generator=generator) for _ in range(2))
grouped = attention_formula(many, few_keys, few_values)
assert grouped.shape == (1, 4, T, D)
assert torch.allclose(grouped, attention_fused(many, few_keys, few_values), atol=1e-5)
print("4 query heads over 2 key heads:", tuple(grouped.shape))

# %% [markdown]
# ## Rotary position embeddings
# So far a score does not depend on the positions. Rotary embeddings rotate each query and key by an
# angle proportional to its position. Then a score depends on the distance between two positions,
# and only on the distance.

# %%
cos, sin = rotary_tables(64, D, base=10_000.0)


def score(query_position: int, key_position: int) -> float:
    """Score of one fixed query and one fixed key at two positions."""
    q = rotate(queries[:, :, :1], cos[query_position][None], sin[query_position][None], "half")
    k = rotate(keys[:, :, :1], cos[key_position][None], sin[key_position][None], "half")
    return float((q * k).sum())


print(f"distance 3: {score(5, 2):.4f}, and 40 positions later: {score(45, 42):.4f}")
print(f"distance 9: {score(11, 2):.4f}")
assert abs(score(5, 2) - score(45, 42)) < 1e-4
assert abs(score(5, 2) - score(11, 2)) > 1e-2
