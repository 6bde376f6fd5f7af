"""Which text a token store was made from, as far as its manifest states it.

A store refers to the beginning of the corpus file that it was made from:
"corpus/train.jsonl bytes:123 sha256:ab12...".
"""

import json
import shutil
from pathlib import Path
from typing import Any

from groundup.base.dependents import runs_on
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json, sha256_bytes, sha256_file
from groundup.base.free_name import free_name
from groundup.text.corpus import SIDES, SideSize, corpus_file, read_sizes
from groundup.text.split import Side

_CHOICE = "Use another data folder, or set overwrite to replace it."


def store_manifest(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of a token store, intact or not; None: the folder is not one."""
    try:
        manifest = read_json(folder / "manifest.json")
    except UserError:
        return None
    is_store = isinstance(manifest, dict) and {"format_version", "shards"} <= manifest.keys()
    return manifest if is_store else None


def manifest_checksum(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own checksum."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return sha256_bytes(json.dumps(rest, sort_keys=True).encode())


def n_referenced_bytes(data: Path, side: Side, size: SideSize, manifest: Any) -> int:
    """Return the length of the text that a manifest refers to, or 0 if the corpus differs from it.

    Args:
        data: The data folder.
        side: The side that the manifest should refer to.
        size: Its present size.
        manifest: The manifest of something made from the corpus, such as a token store.
    """
    try:
        _, n_bytes, checksum = manifest["sources"][0].split(" ")
        n_bytes = int(n_bytes.removeprefix("bytes:"))
    except (AttributeError, TypeError, ValueError, KeyError, IndexError):
        return 0
    if n_bytes > size.n_file_bytes:
        return 0
    present = (
        size.sha256
        if n_bytes == size.n_file_bytes
        else sha256_file(corpus_file(data, side), n_bytes)
    )
    return n_bytes if checksum == f"sha256:{present}" else 0


def is_encoded_with(manifest: dict[str, Any], fingerprint: str, end_of_text: int | None) -> bool:
    """Whether a store was encoded with this tokenizer, which ends a document with this id."""
    found = (manifest.get("tokenizer_fingerprint"), manifest.get("end_of_text"))
    return found == (fingerprint, end_of_text)


def remove_outdated(data: Path) -> list[Path]:
    """Remove token stores (DATA/train, DATA/validation) that were made from another text.

    A store is kept if the present corpus begins with its text. Other folders are never removed.

    Returns:
        The folders that were removed.
    """
    removed = []
    for side, size in read_sizes(data / "corpus").items():
        folder, manifest = data / side, store_manifest(data / side)
        if manifest is not None and n_referenced_bytes(data, side, size, manifest) == 0:
            shutil.rmtree(folder)
            removed.append(folder)
    return removed


def encode_elsewhere(data: Path) -> str:
    """Write the command that encodes the corpus with the tokenizer in a new data folder."""
    goal = quoted(free_name(data))
    parts = " ".join(quoted(data / name) for name in ("corpus", "tokenizer"))
    return f"mkdir {goal} && cp -r {parts} {goal} && groundup encode {goal}"


def check_stores(
    data: Path,
    sizes: dict[Side, SideSize],
    fingerprint: str | None,
    end_of_text: int | None = None,
    *,
    overwrite: bool,
) -> dict[Side, int]:
    """Refuse to replace token stores of another text, or those that a run was trained on.

    Args:
        data: The data folder.
        sizes: The sizes of its corpus.
        fingerprint: That of the tokenizer it will be encoded with. None: not known yet.
        end_of_text: The id with which that tokenizer ends a document. None: it has none.
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
        damaged = manifest.get("manifest_sha256") != manifest_checksum(manifest)
        if overwrite or (damaged and not found[side]):
            continue
        if not found[side]:
            raise UserError(
                "This token store was not made from the corpus in the data folder. " + _CHOICE,
                where=data / side,
                command=encode_elsewhere(data),
            )
        of_other = fingerprint and not is_encoded_with(manifest, fingerprint, end_of_text)
        if of_other and (runs := runs_on(data)):
            raise UserError(
                "This token store was made with another tokenizer than the one in the data folder, "
                f"and the run {runs[0]} was trained on it. {_CHOICE}",
                where=data / side,
                command=encode_elsewhere(data),
            )
    return found
