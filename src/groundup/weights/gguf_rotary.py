"""Scaled rotary frequencies in GGUF files.

The kinds "linear" and "yarn" are keys of the metadata. The kind "llama3" has no keys: the tensor
`rope_freqs.weight` holds the factor by which each wavelength is multiplied, and the settings are
found from these factors.

Source: https://github.com/ggml-org/llama.cpp/blob/master/conversion/llama.py, for the factors;
    src/llama-context.cpp there, for what the keys of yarn mean.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import RotaryScaling
from groundup.weights.gguf_metadata import Metadata

YARN_NEUTRAL = {"yarn_ext_factor": 1.0, "yarn_log_multiplier": 0.0}
"""Keys of yarn that only have an effect at other values, which no model of ours computes."""
_USUAL_HIGH = 4.0
_TOLERANCE = 1e-5


def scaling_of(metadata: Metadata, context_length: int) -> RotaryScaling | None:
    """Read the scaling that the keys state.

    Raises:
        UserError: It is of a kind that is not supported; the message names the key.
    """
    at = f"{metadata.family}.rope.scaling"
    # llama.cpp also takes a factor without a type for linear.
    kind = metadata.values.get(f"{at}.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        metadata.refuse(f"{at}.type", "none, linear and yarn are supported.")
    stated = metadata.values.get(f"{at}.factor", 0)
    if kind == "none" or stated in (0, 1):
        return None
    factor = metadata.number("rope.scaling.factor")
    if kind == "linear":
        return RotaryScaling(kind="linear", factor=factor)
    for name, neutral in YARN_NEUTRAL.items():
        if metadata.values.get(f"{at}.{name}", neutral) != neutral:
            metadata.refuse(f"{at}.{name}", f"Only {neutral} is supported.")
    # llama.cpp computes this scale from the factor and does not read the key.
    usual = yarn_scale(factor)
    scale = metadata.number("rope.scaling.yarn_attn_factor", usual)
    if not any(math.isclose(scale, each, rel_tol=1e-5) for each in (1.0, usual)):
        metadata.refuse(f"{at}.yarn_attn_factor", f"Only {usual:g} is supported.")
    return RotaryScaling(
        kind="yarn",
        factor=factor,
        original_context=metadata.size("rope.scaling.original_context_length", context_length),
        beta_fast=metadata.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=metadata.number("rope.scaling.yarn_beta_slow", 1.0),
    )


def yarn_scale(factor: float) -> float:
    """Compute the usual scale of rotated queries and keys with yarn."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def wavelength_factors(scaling: RotaryScaling, d_head: int, base: float) -> Float[Tensor, " pairs"]:
    """Compute the factor of the wavelength of each pair with "llama3"."""
    assert scaling.original_context is not None
    T, low, high = (
        scaling.original_context,
        scaling.low_frequency_factor,
        scaling.high_frequency_factor,
    )
    lengths = _wavelengths(d_head, base)
    smooth = (T / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / scaling.factor + smooth)
    factors = torch.where(lengths > T / low, scaling.factor, between)
    return torch.where(lengths < T / high, 1.0, factors)


def scaling_of_factors(
    factors: Float[Tensor, " pairs"], d_head: int, base: float
) -> RotaryScaling | None:
    """Find the scaling of which these are the factors; None if they are all 1.

    Raises:
        UserError: No settings of "linear" or "llama3" give these factors.
    """
    if bool((factors == 1).all()):
        return None
    if bool((factors == factors[0]).all()) and factors[0] > 0:
        return RotaryScaling(kind="linear", factor=_decimal(factors[0].item()))
    largest = _decimal(factors.max().item())
    if math.isfinite(largest) and largest > 1:
        for T, high in _candidates(factors, d_head, base, largest):
            if high <= 1 or T < 1:
                continue
            scaling = RotaryScaling(
                kind="llama3", factor=largest, original_context=T, high_frequency_factor=high
            )
            found = wavelength_factors(scaling, d_head, base)
            if torch.allclose(found, factors, rtol=_TOLERANCE, atol=0):
                return scaling
    raise UserError(
        "The tensor 'rope_freqs.weight' holds factors that no settings of the scalings 'linear' "
        "and 'llama3' give. No other scaling is supported in this form."
    )


def _candidates(
    factors: Tensor, d_head: int, base: float, largest: float
) -> Iterator[tuple[int, float]]:
    """Pairs of original context and high-frequency factor, for a low-frequency factor of 1.

    Between the two limits, the share that is not scaled is linear in the inverse wavelength.
    """
    is_between = (factors > 1) & (factors < largest)
    inverse = (1 / _wavelengths(d_head, base).double())[is_between]
    smooth = (1 / factors.double()[is_between] - 1 / largest) / (1 - 1 / largest)
    if len(inverse) > 1:
        slope = ((smooth[0] - smooth[-1]) / (inverse[0] - inverse[-1])).item()
        offset = smooth[0].item() - slope * inverse[0].item()  # -1 / (high - 1)
        if offset < 0 < slope:
            yield round(-slope / offset), _decimal(1 - 1 / offset, digits=4)
    if len(inverse):
        yield round(((1 + smooth * (_USUAL_HIGH - 1)) / inverse)[0].item()), _USUAL_HIGH
    # No wavelength is between the limits, so that several settings give the same factors.
    yield from ((2**n, _USUAL_HIGH) for n in sorted(range(1, 21), key=lambda n: abs(n - 13)))
    lengths = _wavelengths(d_head, base)
    kept, scaled = lengths[factors == 1], lengths[factors == factors.max()]
    if len(kept):
        T = math.floor(scaled.min().item() * 0.999)
        yield T, (1 + T / kept.max().item()) / 2


def _wavelengths(d_head: int, base: float) -> Tensor:
    pair = torch.arange(0, d_head, 2, dtype=torch.float32)
    return 2 * math.pi / (1.0 / base ** (pair / d_head))


def _decimal(value: float, digits: int = 6) -> float:
    """Round to a number of significant digits.

    >>> _decimal(7.9999998)
    8.0
    """
    return float(f"{value:.{digits}g}")


def scaling_keys(scaling: RotaryScaling) -> dict[str, str | float | int]:
    """Write a scaling as keys; none for "llama3", which is a tensor."""
    if scaling.kind == "llama3":
        return {}
    keys: dict[str, str | float | int] = {
        "rope.scaling.type": scaling.kind,
        "rope.scaling.factor": float(scaling.factor),
    }
    if scaling.kind == "yarn":
        assert scaling.original_context is not None
        keys |= {
            "rope.scaling.original_context_length": scaling.original_context,
            "rope.scaling.yarn_beta_fast": float(scaling.beta_fast),
            "rope.scaling.yarn_beta_slow": float(scaling.beta_slow),
        }
    return keys
