"""Encode on a Ray cluster: the same parts, made by Ray Data's workers.

Ray schedules and retries. A part depends on its unit alone, so the store is bit-identical to one
made by a single process, even when workers die. All machines must share the data folder.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groundup.base.extras import needed
from groundup.data.parts import Part, encode_part
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer


def encode_on_ray(
    parts: Sequence[Part], tokenizer: Tokenizer, folder: Path, report: Callable[[int], None]
) -> None:
    """Encode parts on the cluster that Ray finds (`RAY_ADDRESS`), or on a local one.

    Raises:
        UserError: Ray is not installed.
    """
    ray_data = needed("ray.data", "ray", "engine=ray")
    if not parts:
        return
    tokenizer_folder = folder.resolve() / "tokenizer"
    tokenizer.save(tokenizer_folder)
    rows = [{"part": part} for part in parts]
    encoded = ray_data.from_items(rows, override_num_blocks=len(rows)).map(
        _Encoder, fn_constructor_args=(str(tokenizer_folder),), concurrency=(1, len(rows))
    )
    for row in encoded.iter_rows():
        report(int(row["n_bytes"]))


class _Encoder:
    """The state of a worker, which loads the tokenizer once."""

    def __init__(self, tokenizer_folder: str) -> None:
        self._tokenizer = load_tokenizer(tokenizer_folder)
        self._to_ids = fast_encoder(self._tokenizer)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = row["part"]
        encode_part(part, self._to_ids, self._tokenizer)
        return {"n_bytes": part.stop - part.start}
