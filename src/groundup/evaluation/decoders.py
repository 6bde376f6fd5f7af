"""The decoder of a trained model: which form its weights have while it generates."""

import weakref
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder, Form
from groundup.model.gpt import GPT
from groundup.model.lora import lora_layers
from groundup.model.quantized import BLOCK_BYTES, QuantizedWeight
from groundup.weights.checkpoint_format import quantized_rows

_made: "weakref.WeakKeyDictionary[GPT, tuple[Any, Decoder]]" = weakref.WeakKeyDictionary()


def form_of(dtype: str, quantize: str | None) -> Form:
    """Name the form of the weights for two settings of a command.

    >>> form_of("bfloat16", None), form_of("float32", "int8")
    ('bfloat16', 'int8')
    """
    form: Any = quantize or dtype
    checked: Form = form
    return checked


def decoder_of(
    model: GPT, folder: Path, *, form: Form = "float32", deterministic: bool = False
) -> Decoder:
    """Make the decoder of a model, or return the last one if nothing has changed since.

    Args:
        model: The model.
        folder: The folder its weights were read from, for the form "file".
        form: How weights are stored and multiplied.
        deterministic: A row has the same bits alone and beside any other rows.

    Raises:
        UserError: The form is "file", and the weights of the folder are not quantized.
    """
    # A decoder holds copies of weights: it is made again when one was changed or moved.
    weights = tuple((p.data_ptr(), p._version) for p in model.parameters())
    adapters = tuple(layer.is_enabled for layer in lora_layers(model).values())
    key = (form, deterministic, model.n_used_ids, weights, adapters)
    made = _made.get(model)
    if made is None or made[0] != key:
        _made.pop(model, None)  # before the next one is made: both may not fit
        blocks = _blocks(folder) if form == "file" else None
        made = key, Decoder(model, form=form, blocks=blocks, deterministic=deterministic)
        _made[model] = made
    return made[1]


def _blocks(folder: Path) -> dict[str, QuantizedWeight]:
    """Read the quantized weights of a folder that decoders can multiply."""
    found: dict[str, QuantizedWeight] = {}
    for name, read in (quantized_rows(folder) or {}).items():
        parts = read()
        if all(part.type in BLOCK_BYTES for part in parts):
            weights = [QuantizedWeight.from_blocks(part.rows, part.type) for part in parts]
            if len({weight.n_bits for weight in weights}) == 1:
                found[name] = QuantizedWeight.concatenate(weights)
    if not found:
        raise UserError(
            "The weights of this model are not quantized. A model that was imported from a GGUF "
            "file of type Q4_0, Q4_1 or Q8_0 is expected.",
            where=folder,
            settings={"quantize": "int8"},
        )
    return found
