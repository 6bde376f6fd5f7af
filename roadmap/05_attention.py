# %% [markdown]
# # 5. Attention
#
# A model reads tokens left to right. To guess the next one it must look back: attention decides,
# for each position, how much of which earlier position to take in. Here it is built from one
# formula, then shown to be the same as the fast path that the model really runs.

# %%
import torch

from groundup.model.attention import (
    attention_formula,
    attention_fused,
    attention_weights,
    causal_mask,
    rotary_tables,
    rotate,
)

generator = torch.Generator().manual_seed(123)
T, D = 5, 8  # five positions; vectors of eight numbers

# %% [markdown]
# ## Three vectors for each position
# A query (what am I looking for?), a key (what do I offer?) and a value (what do I pass on?). In
# a model they are learned projections; here they are random. The shape is batch x heads x
# positions x width.

# %%
queries, keys, values = (torch.randn(1, 1, T, D, generator=generator) for _ in range(3))
scores = queries @ keys.transpose(-2, -1) / D**0.5
print("scores, one row for each query:\n", scores[0, 0].round(decimals=2))

# %% [markdown]
# ## The mask: nobody sees the future
# A position that could see the token it must guess would learn nothing.

# %%
print(causal_mask(T, T).int())
weights = attention_weights(queries, keys)
print("weights:\n", weights[0, 0].round(decimals=2))
assert torch.allclose(weights.sum(-1), torch.ones(1, 1, T)), "each row is shared out completely"
assert (weights[0, 0].triu(1) == 0).all(), "nothing goes to the future"
assert weights[0, 0, 0, 0] == 1, "the first position has only itself to look at"

# %% [markdown]
# ## The mixture
# Each position takes the values, mixed by its weights. That is the whole formula: softmax(Q K^T /
# sqrt(D)) V. The fast path gives the same numbers without storing the T x T matrix.

# %%
mixed = attention_formula(queries, keys, values)
by_hand = sum(weights[0, 0, 3, s] * values[0, 0, s] for s in range(4))
assert torch.allclose(mixed[0, 0, 3], by_hand, atol=1e-6)
difference = (attention_fused(queries, keys, values) - mixed).abs().max().item()
print(f"largest difference between formula and fused kernel: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## Several heads, fewer keys
# Heads attend side by side, each to something else. Grouped-query attention lets several query
# heads share one key head, which makes the memory of the past smaller: here 4 query heads share
# 2.

# %%
many = torch.randn(1, 4, T, D, generator=generator)
few_keys, few_values = (torch.randn(1, 2, T, D, generator=generator) for _ in range(2))
grouped = attention_formula(many, few_keys, few_values)
assert grouped.shape == (1, 4, T, D)
assert torch.allclose(grouped, attention_fused(many, few_keys, few_values), atol=1e-5)
print("4 query heads over 2 key heads:", tuple(grouped.shape))

# %% [markdown]
# ## Where am I? Rotary positions
# So far the order of the keys made no difference. Turning each query and key by an angle that
# grows with the position makes a score depend on the distance, and on the distance only.

# %%
cos, sin = rotary_tables(64, D, base=10_000.0)


def score(query_position: int, key_position: int) -> float:
    """The score of one fixed query and one fixed key, standing at two positions."""
    q = rotate(queries[:, :, :1], cos[query_position][None], sin[query_position][None], "half")
    k = rotate(keys[:, :, :1], cos[key_position][None], sin[key_position][None], "half")
    return float((q * k).sum())


print(f"distance 3: {score(5, 2):.4f} and, 40 positions later, {score(45, 42):.4f}")
print(f"distance 9: {score(11, 2):.4f}")
assert abs(score(5, 2) - score(45, 42)) < 1e-4
assert abs(score(5, 2) - score(11, 2)) > 1e-2
