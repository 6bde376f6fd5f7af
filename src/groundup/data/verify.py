"""Verify a data folder: read every byte and compare it with the checksums in the manifests."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.folder_kinds import not_data
from groundup.data.config import VerifyConfig
from groundup.data.manifest import is_store, rebuild_command
from groundup.data.store import TokenStore
from groundup.text.corpus import SIDES, read_sizes, verify_corpus
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


@takes_settings(VerifyConfig, "data")
def verify(config: VerifyConfig) -> VerifyResult:
    """Compare every file with its checksum, and the stores with the tokenizer beside them.

    Raises:
        UserError: There is nothing to verify, or files are damaged; the message names all of them.
    """
    data = config.data
    checks: list[tuple[str, int, Callable[[], None]]] = []
    if is_store(data):
        checks.append((str(data), _n_bytes(data), partial(_verify_store, data)))
    if (data / "corpus").is_dir():
        n_bytes = sum(size.n_file_bytes for size in read_sizes(data / "corpus").values())
        checks.append(("corpus", n_bytes, partial(verify_corpus, data / "corpus")))
    for side in SIDES:
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
    if damage:
        raise UserError("\n".join(damage))
    return VerifyResult(parts=tuple(intact))


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
