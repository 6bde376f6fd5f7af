"""The gated delta rule in NumPy, one position after another.

Written from the paper, independently of the model's code, for tests to compare with.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def gated_delta_rule(
    queries: Array, keys: Array, values: Array, decay: Array, rate: Array, state: Array
) -> tuple[Array, Array]:
    """Compute the outputs and the state after the last position.

    Args:
        queries: (B, T, H, D), scaled to length 1 / sqrt(D) before they are used.
        keys: (B, T, H, D), scaled to length 1 before they are used.
        values: (B, T, H, D).
        decay: (B, T, H), the log of the factor that the state is multiplied by.
        rate: (B, T, H), how much of what is stored under a key is replaced.
        state: (B, H, D, D), the state before the first position: rows are keys.

    Source: "Gated Delta Networks: Improving Mamba2 with Delta Rule", equation 10.
    """
    B, T, H, D = queries.shape
    output, state = np.zeros_like(values), state.copy()
    for b in range(B):
        for h in range(H):
            for t in range(T):
                q, k, v = (x[b, t, h] for x in (queries, keys, values))
                q, k = (x / np.sqrt(x @ x + 1e-6) for x in (q, k))
                S = np.exp(decay[b, t, h]) * state[b, h]
                erased = np.outer(k, k @ S)
                S = S + rate[b, t, h] * (np.outer(k, v) - erased)
                output[b, t, h] = q @ S / np.sqrt(D)
                state[b, h] = S
    return output, state
