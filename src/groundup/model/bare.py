"""Linear layers and tables that are born empty: `GPT.initialise` sets every weight, once.

torch's own layers draw random numbers as they are made, from the global random state.
"""

import torch
from torch import nn


class Linear(nn.Linear):
    """`torch.nn.Linear` without start values."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Table(nn.Embedding):
    """`torch.nn.Embedding` without start values."""

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__(n_rows, width, _weight=torch.empty(n_rows, width))
