"""The manifest of a token store: what it records, and what is checked when a store is opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json, write_json
from groundup.base.folder_kinds import not_data
from groundup.data.token_files import ShardWriter, starts_header
from groundup.text.stores import manifest_checksum, store_manifest

FORMAT_VERSION = 1
HEADER_BYTES = len(starts_header(0))
"""Bytes before the starts in `documents.npy`; the same for any number of documents."""


def is_store(folder: Path | str) -> bool:
    """Return whether a folder holds a token store, intact or not."""
    return store_manifest(Path(folder)) is not None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store; check it and the sizes of all files, not their content.

    Raises:
        UserError: There is no store, its format has another version, its manifest was changed, or
            a file is missing or has another size.
    """
    if not (folder / "manifest.json").is_file():
        raise _no_store(folder)
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"The token store has format {version}. Format {FORMAT_VERSION} is expected.",
            where=folder,
        )
    if manifest.get("manifest_sha256") != manifest_checksum(manifest):
        raise damaged(folder, "manifest.json", "The manifest does not match its own checksum.")
    itemsize = np.dtype(manifest["dtype"]).itemsize
    sizes = {shard["file"]: shard["n_tokens"] * itemsize for shard in manifest["shards"]}
    sizes["documents.npy"] = HEADER_BYTES + 8 * manifest["n_documents"]
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found is None:
            raise damaged(folder, name, f"The file is missing; it should have {size:,} bytes.")
        # An interrupted append leaves a longer table of starts: only the first part is read.
        is_longer_table = name == "documents.npy" and found > size and (found - size) % 8 == 0
        if found != size and not is_longer_table:
            raise damaged(
                folder, name, f"The file has {found:,} bytes. A file of {size:,} bytes is expected."
            )
    return manifest


def write_manifest(
    folder: Path, table: dict[str, Any], writer: ShardWriter, sources: Sequence[str]
) -> None:
    """Finish the shards, then write the manifest that makes them a store."""
    shards, documents_sha256 = writer.close()
    manifest = {key: value for key, value in table.items() if key != "manifest_sha256"} | {
        "n_tokens": writer.n_tokens,
        "n_documents": writer.n_documents,
        "sources": list(sources),
        "documents_sha256": documents_sha256,
        "shards": shards,
    }
    manifest["manifest_sha256"] = manifest_checksum(manifest)
    write_json(folder / "manifest.json", manifest)


def damaged(folder: Path, name: str, found: str) -> UserError:
    """Return the error for a file of a store that must be rebuilt."""
    command = rebuild_command(folder) if (folder.parent / "corpus").is_dir() else ""
    return UserError(f"{found} Rebuild the token store.", where=folder / name, command=command)


def rebuild_command(folder: Path) -> str:
    """Return the command that writes the stores of a data folder again."""
    has_tokenizer = (folder.parent / "tokenizer").is_dir()
    return f"groundup {'encode' if has_tokenizer else 'train-tokenizer'} {quoted(folder.parent)}"


def _no_store(folder: Path) -> UserError:
    is_inside = folder.name in ("train", "validation")
    if is_inside and (wrong := not_data(folder.parent)) is not None:
        return wrong
    stores = [side for side in ("train", "validation") if is_store(folder / side)]
    if stores:
        places = " or ".join(str(folder / side) for side in stores)
        return UserError(
            f"This is a data folder, not a token store. One of its stores is expected: {places}.",
            where=folder,
        )
    return UserError(
        "There is no token store. A folder made by `groundup encode` is expected.",
        where=folder,
        command=rebuild_command(folder) if (folder.parent / "corpus").is_dir() else "",
    )
