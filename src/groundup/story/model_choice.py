"""The model of a story: as large as the time and the text allow, for a few passes over the text.

More passes teach little that is new, and then the model overfits. So where there is time for more
passes, a larger model is trained.
"""

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.data.windows import Windows
from groundup.model.count import count_parameters
from groundup.planning.budget import SHAPES, choose
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, open_data, with_vocabulary

MAX_PASSES = 4.0
"""Number of passes over the training text. Source: "Scaling Data-Constrained Language Models",
section 6: up to four passes are almost as good as new text."""
_PARAMETERS_PER_TOKEN = 8
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
        n_heads = d_model // (32 if d_model < 256 else 64)
        larger = replace_settings(config, n_layers=n_layers, d_model=d_model, n_heads=n_heads)
        if _n_parameters(larger, data) > _PARAMETERS_PER_TOKEN * data.train.n_tokens:
            break
        try:
            chosen = choose(larger, data, seconds, _EXPORTED | _SHAPE)
        except UserError:  # too slow, or too large for the memory
            break
    excess = n_passes(chosen, data) / MAX_PASSES
    if excess > 1:
        # Chosen again for the time that is used, because a shorter run has smaller batches.
        model = chosen.model
        shape = {name: getattr(model, name) for name in _SHAPE}
        chosen = choose(
            replace_settings(config, **shape), data, seconds / excess, _EXPORTED | _SHAPE
        )
        most = MAX_PASSES * len(Windows(data.train, chosen.model.context_length))
        chosen = replace_settings(
            chosen, steps=max(1, min(chosen.steps, int(most / chosen.batch_size)))
        )
    return chosen


def n_passes(config: PretrainConfig, data: Data) -> float:
    """Number of passes over the training text."""
    n_windows = len(Windows(data.train, config.model.context_length))
    return config.steps * config.batch_size / n_windows


def _n_parameters(config: PretrainConfig, data: Data) -> int:
    return count_parameters(with_vocabulary(config, data).model)
