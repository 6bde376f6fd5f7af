"""Linear and embedding layers without initial values: `GPT.initialize` sets every weight.

torch's own layers draw random numbers from the global random state when they are created.
"""

import torch
from torch import nn


class Linear(nn.Linear):
    """`torch.nn.Linear` without initialization."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Embedding(nn.Embedding):
    """`torch.nn.Embedding` without initialization."""

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__(n_rows, width, _weight=torch.empty(n_rows, width))
