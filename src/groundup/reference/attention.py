"""Attention and rotary positions, slow and obvious: NumPy, one number after the other.

Written from the papers, apart from the model's code, to hold the model against.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def softmax(scores: Array) -> Array:
    """Shares that sum to one: exp(score), divided by the sum of all.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    # Taking off the largest score changes no share and keeps exp from overflowing.
    powers = np.exp(scores - scores.max())
    shares: Array = powers / powers.sum()
    return shares


def attention(queries: Array, keys: Array, values: Array) -> Array:
    """Causal attention of H query heads over G key heads, one query at a time.

    Args:
        queries: (B, H, T, D); the last T of S positions.
        keys: (B, G, S, D).
        values: (B, G, S, D).

    Returns:
        (B, H, T, D): for each query the values up to its own position, mixed.

    Source: "Attention Is All You Need", equation 1.
    """
    B, H, T, D = queries.shape
    G, S = keys.shape[1], keys.shape[2]
    mixed = np.zeros_like(queries)
    for b in range(B):
        for h in range(H):
            g = h * G // H  # the key head that serves this group of query heads
            for t in range(T):
                n_seen = S - T + t + 1  # the past, and itself
                scores = np.array([queries[b, h, t] @ keys[b, g, s] for s in range(n_seen)])
                shares = softmax(scores / np.sqrt(D))
                for s in range(n_seen):
                    mixed[b, h, t] += shares[s] * values[b, g, s]
    return mixed


def rotate(x: Array, *, base: float, layout: Literal["half", "interleaved"]) -> Array:
    """Turn every pair of numbers as a point of the plane, by an angle that grows with the position.

    Args:
        x: (B, T, N, D): N heads of width D at positions 0 to T - 1.
        base: pair i turns by base^(-2i / D) for each position.
        layout: pairs are (i, i + D/2) for "half", (2i, 2i + 1) for "interleaved".

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", equations 13 to 15.
    """
    D = x.shape[-1]
    turned = np.empty_like(x)
    for i in range(D // 2):
        one, two = (i, i + D // 2) if layout == "half" else (2 * i, 2 * i + 1)
        for t in range(x.shape[1]):
            angle = t * base ** (-2 * i / D)
            turned[:, t, :, one] = x[:, t, :, one] * np.cos(angle) - x[:, t, :, two] * np.sin(angle)
            turned[:, t, :, two] = x[:, t, :, one] * np.sin(angle) + x[:, t, :, two] * np.cos(angle)
    return turned
