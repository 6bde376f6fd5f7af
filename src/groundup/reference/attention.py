"""Attention and rotary embeddings in NumPy loops, slow and simple.

Written from the papers, independently of the model's code, for tests to compare with.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def softmax(scores: Array) -> Array:
    """exp(score) divided by the sum over all scores.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    # Subtracting the largest score does not change the result and prevents an overflow of exp.
    powers = np.exp(scores - scores.max())
    weights: Array = powers / powers.sum()
    return weights


def attention(queries: Array, keys: Array, values: Array, window: int | None = None) -> Array:
    """Compute causal attention of H query heads over G key heads, one query at a time.

    Args:
        queries: (B, H, T, D), the last T of S positions.
        keys: (B, G, S, D).
        values: (B, G, S, D).
        window: Number of keys that a query sees at most: its own and those before it. None: all.

    Returns:
        (B, H, T, D): for each query the weighted sum of the values up to its own position.

    Source: "Attention Is All You Need", equation 1.
    """
    B, H, T, D = queries.shape
    G, S = keys.shape[1], keys.shape[2]
    output = np.zeros_like(queries)
    for b in range(B):
        for h in range(H):
            g = h * G // H  # the key head that this group of query heads shares
            for t in range(T):
                stop = S - T + t + 1  # all earlier positions, and its own
                seen = range(0 if window is None else max(0, stop - window), stop)
                scores = np.array([queries[b, h, t] @ keys[b, g, s] for s in seen])
                weights = softmax(scores / np.sqrt(D))
                for weight, s in zip(weights, seen, strict=True):
                    output[b, h, t] += weight * values[b, g, s]
    return output


def rotate(x: Array, *, base: float, layout: Literal["half", "interleaved"]) -> Array:
    """Rotate every pair of dimensions in its plane by an angle proportional to the position.

    Args:
        x: (B, T, N, D): N heads of width D at positions 0 to T - 1.
        base: Pair i is rotated by base^(-2i / D) per position.
        layout: Pairs are (i, i + D/2) for "half", (2i, 2i + 1) for "interleaved".

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", equations 13 to 15.
    """
    D = x.shape[-1]
    rotated = np.empty_like(x)
    for i in range(D // 2):
        a, b = (i, i + D // 2) if layout == "half" else (2 * i, 2 * i + 1)
        for t in range(x.shape[1]):
            angle = t * base ** (-2 * i / D)
            rotated[:, t, :, a] = x[:, t, :, a] * np.cos(angle) - x[:, t, :, b] * np.sin(angle)
            rotated[:, t, :, b] = x[:, t, :, a] * np.sin(angle) + x[:, t, :, b] * np.cos(angle)
    return rotated
