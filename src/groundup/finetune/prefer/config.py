"""Settings of preference tuning."""

from typing import Literal

LossName = Literal["sigmoid", "robust", "ipo", "sigmoid_norm"]
