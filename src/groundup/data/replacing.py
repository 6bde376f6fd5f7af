"""Whether the token stores of a data folder may be replaced."""

from pathlib import Path

from groundup.base.dependents import runs_on
from groundup.base.errors import UserError, quoted
from groundup.data.manifest import read_manifest
from groundup.text.corpus import SIDES, SideSize, n_referenced_bytes, store_manifest
from groundup.text.split import Side
from groundup.text.taken import free_name
from groundup.tokenizer.protocol import Tokenizer

_CHOICE = "Use another data folder, or set overwrite to replace it."


def encode_elsewhere(data: Path) -> str:
    """Write the command that encodes the corpus with the tokenizer in a new data folder."""
    goal = quoted(free_name(data))
    parts = " ".join(quoted(data / name) for name in ("corpus", "tokenizer"))
    return f"mkdir {goal} && cp -r {parts} {goal} && groundup encode {goal}"


def check_stores(
    data: Path, sizes: dict[Side, SideSize], tokenizer: Tokenizer | None, *, overwrite: bool
) -> dict[Side, int]:
    """Refuse to replace token stores of another text, or those that a run was trained on.

    Args:
        data: The data folder.
        sizes: The sizes of its corpus.
        tokenizer: What it will be encoded with. None: not known yet.
        overwrite: Whether they may be replaced.

    Returns:
        How many bytes of the corpus file each side was made from; 0 where it does not matter.

    Raises:
        UserError: A store was made from another text, or a run was trained on it.
    """
    found: dict[Side, int] = dict.fromkeys(SIDES, 0)
    for side in SIDES:
        manifest = store_manifest(data / side)
        if manifest is None:
            continue
        found[side] = n_referenced_bytes(data, side, sizes[side], manifest)
        if overwrite or (not found[side] and _is_damaged(data / side)):
            continue
        if not found[side]:
            raise UserError(
                "This token store was not made from the corpus in the data folder. " + _CHOICE,
                where=data / side,
                command=encode_elsewhere(data),
            )
        of_other = tokenizer is not None and (
            manifest.get("tokenizer_fingerprint") != tokenizer.fingerprint
        )
        if of_other and (runs := runs_on(data)):
            raise UserError(
                "This token store was made with another tokenizer than the one in the data folder, "
                f"and the run {runs[0]} was trained on it. {_CHOICE}",
                where=data / side,
                command=encode_elsewhere(data),
            )
    return found


def _is_damaged(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except UserError:
        return True
    return False
