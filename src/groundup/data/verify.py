"""Verify a data folder: read every byte and compare it with the checksums in the manifests."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.folder_kinds import not_data
from groundup.base.undo import KEPT
from groundup.data.config import VerifyConfig
from groundup.data.manifest import is_store, rebuild_command
from groundup.data.store import TokenStore
from groundup.text.corpus import (
    SIDES,
    SideSize,
    read_sizes,
    reference,
    verify_corpus,
)
from groundup.text.split import Side
from groundup.text.stores import encode_elsewhere, n_referenced_bytes, store_manifest
from groundup.tokenizer.files import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class VerifiedPart:
    """An intact part of a data folder."""

    name: str
    n_bytes: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """The parts of a data folder, all of them intact."""

    parts: tuple[VerifiedPart, ...]
    notes: tuple[str, ...] = ()
    """What is not encoded yet."""


@takes_settings(VerifyConfig, "data")
def verify(config: VerifyConfig) -> VerifyResult:
    """Compare every file with its checksum, and the stores with the tokenizer and the corpus.

    Raises:
        UserError: There is nothing to verify, files are damaged, or they do not belong together;
            the message names all of them.
    """
    data = config.data
    checks: list[tuple[str, int, Callable[[], None]]] = []
    if is_store(data):
        checks.append((str(data), _n_bytes(data), partial(_verify_store, data)))
    if (data / "corpus").is_dir():
        n_bytes = sum(size.n_file_bytes for size in read_sizes(data / "corpus").values())
        checks.append(("corpus", n_bytes, partial(verify_corpus, data / "corpus")))
    for side in SIDES:
        if not is_store(data / side) and (data / side / "manifest.json").exists():
            raise UserError(
                "This is not a token store any more: its manifest is damaged. Encode the text "
                "again.",
                where=data / side,
                command=encode_elsewhere(data),
            )
        if is_store(data / side):
            checks.append((side, _n_bytes(data / side), partial(_verify_store, data / side)))
    if not checks:
        raise not_data(data) or UserError(
            "There is nothing to verify. A data folder made by `groundup prepare` or a token store "
            "is expected.",
            where=data,
        )
    intact, damage = [], []
    for name, n_bytes, check in checks:
        started_at = time.perf_counter()
        try:
            check()
        except UserError as found:
            damage.append(str(found))
            continue
        elapsed_s = time.perf_counter() - started_at
        intact.append(VerifiedPart(name=name, n_bytes=n_bytes, elapsed_s=elapsed_s))
    notes: list[str] = []
    if not damage:
        for check_together in (_compare_with_corpus, _compare_sides):
            try:
                notes += check_together(data)
            except UserError as found:
                damage.append(str(found))
    if (data / KEPT).exists():
        notes.append("A change of this folder was interrupted. The next command undoes it.")
    has_store = any(is_store(data / side) for side in SIDES)
    if has_store and not damage and not (data / "tokenizer").is_dir():
        damage.append(f"{data / 'tokenizer'}: The tokenizer of the token stores is missing.")
    if damage:
        raise UserError("\n".join(damage))
    return VerifyResult(parts=tuple(intact), notes=tuple(notes))


def _compare_with_corpus(data: Path) -> list[str]:
    """Refuse stores of another text than the corpus; list what is not encoded yet."""
    stores = {side: manifest for side in SIDES if (manifest := store_manifest(data / side))}
    if not (data / "corpus" / "manifest.json").is_file() or not stores:
        return []
    notes, problems = [], []
    for side, size in read_sizes(data / "corpus").items():
        manifest = stores.get(side)
        n_bytes = n_referenced_bytes(data, side, size, manifest) if manifest else 0
        n_stored = manifest["n_documents"] if manifest else 0
        is_complete = n_bytes == size.n_file_bytes
        fits = n_stored == size.n_documents if is_complete else n_stored < size.n_documents
        if manifest and not (n_bytes and fits):
            problems.append(_other_text(data, side, size, manifest))
        elif n_stored < size.n_documents:
            n = size.n_documents - n_stored
            notes.append(f"{side}: not yet encoded: {n:,} {'document' if n == 1 else 'documents'}.")
    if problems:
        raise UserError(
            f"{' '.join(problems)} Encode the corpus again, in another data folder, or with "
            "overwrite, which replaces the stores.",
            where=data,
            command=encode_elsewhere(data),
        )
    return notes


def _other_text(data: Path, side: Side, size: SideSize, manifest: dict[str, Any]) -> str:
    made_from = " ".join(map(str, manifest.get("sources", []))) or "an unknown text"
    return (
        f"The token store {data / side} does not belong to the corpus: it has "
        f"{manifest['n_documents']:,} documents, made from {made_from}, and the corpus has "
        f"{size.n_documents:,} documents, {reference(side, size)}."
    )


def _compare_sides(data: Path) -> list[str]:
    """Refuse two stores of different tokenizers."""
    stores = [store_manifest(data / side) for side in SIDES]
    fingerprints = {store["tokenizer_fingerprint"] for store in stores if store is not None}
    if len(fingerprints) > 1:
        raise UserError(
            "The training and the validation tokens were made with different tokenizers. "
            "Encode the text again.",
            where=data,
            command=rebuild_command(data / SIDES[0]),
        )
    return []


def _n_bytes(store: Path) -> int:
    return sum(file.stat().st_size for file in store.iterdir())


def _verify_store(folder: Path) -> None:
    store = TokenStore.open(folder)
    store.verify()
    tokenizer = folder.parent / "tokenizer"
    if tokenizer.is_dir() and load_tokenizer(tokenizer).fingerprint != store.tokenizer_fingerprint:
        raise UserError(
            "The tokens were made with a different tokenizer than the one in the data folder. "
            "Encode the text again.",
            where=folder,
            command=rebuild_command(folder),
        )
