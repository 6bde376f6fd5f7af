"""The model of a story: as large as the time and the text allow, for a few passes over the text.

More passes teach little that is new, and then the model overfits. So where there is time for more
passes, a larger model is trained.
"""

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.data.windows import Windows
from groundup.planning.budget import SHAPES, block_parameters, choose, shape_settings
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, open_data

MAX_PASSES = 4.0
"""Number of passes over the training text. Source: "Scaling Data-Constrained Language Models",
section 6: up to four passes are almost as good as new text."""
_PARAMETERS_PER_TOKEN = 3
"""Parameters of the blocks per token of the text, at most. With more, the model overfits within
four passes."""
_LEAST_WINDOWS = 64
_N_TRIES = 6
_SHAPE = frozenset({"n_layers", "d_model", "n_heads"})
_EXPORTED = frozenset({"norm", "activation", "qkv_bias", "look_back"})
"""What stays at its default, because no class of transformers has what a budget would choose."""


def choose_pretraining(config: PretrainConfig, seconds: float) -> PretrainConfig:
    """Choose the settings of pretraining, with the number of steps.

    Args:
        config: The data folder, the run folder and the random seed.
        seconds: How long the training may take.

    Raises:
        UserError: There is no data, or nothing fits in memory.
    """
    data = open_data(config.data)
    chosen = choose(config, data, seconds, _EXPORTED)
    for n_layers, d_model in SHAPES:
        if n_passes(chosen, data) <= MAX_PASSES:
            break
        if n_layers * d_model**2 <= chosen.model.n_layers * chosen.model.d_model**2:
            continue
        if block_parameters((n_layers, d_model)) > _PARAMETERS_PER_TOKEN * data.train.n_tokens:
            break
        larger = replace_settings(config, **shape_settings((n_layers, d_model)))
        try:
            chosen = choose(larger, data, seconds, _EXPORTED | _SHAPE)
        except UserError:  # too slow, or too large for the memory
            break
    if n_passes(chosen, data) > MAX_PASSES:
        chosen = _shortened(config, chosen, data, seconds)
    return replace_settings(
        chosen,
        sample_every=-(-chosen.steps // 3),  # the last of three samples is at the end
        # With fewer windows, chance decides which step is the best.
        validation_windows=max(_LEAST_WINDOWS, chosen.validation.validation_windows),
    )


def _shortened(
    config: PretrainConfig, chosen: PretrainConfig, data: Data, seconds: float
) -> PretrainConfig:
    """Choose for the time that the passes take, because a shorter run has smaller batches."""
    shape = {name: getattr(chosen.model, name) for name in _SHAPE}
    needed_s = seconds * MAX_PASSES / n_passes(chosen, data)
    for _ in range(_N_TRIES):
        try:
            shorter = choose(replace_settings(config, **shape), data, needed_s, _EXPORTED | _SHAPE)
        except UserError:  # time for a few steps only
            needed_s = min(seconds, 4 * needed_s)
            continue
        chosen, excess = shorter, n_passes(shorter, data) / MAX_PASSES
        if 0.8 < excess < 1.25 or (excess < 1 and needed_s >= seconds):
            break
        needed_s = min(seconds, needed_s / excess)  # smaller batches are slower
    n_windows = len(Windows(data.train, chosen.model.context_length))
    most = max(1, int(MAX_PASSES * n_windows / chosen.batch_size))
    return replace_settings(chosen, steps=min(chosen.steps, most))


def n_passes(config: PretrainConfig, data: Data) -> float:
    """Number of passes over the training text."""
    n_windows = len(Windows(data.train, config.model.context_length))
    return config.steps * config.batch_size / n_windows
