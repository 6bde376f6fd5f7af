"""The job `verify`: read every byte of a data folder and compare it with the manifests."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.data.store import TokenStore, is_store
from groundup.text.corpus import SIDES, read_sizes, verify_corpus
from groundup.tokenizer.files import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify."""

    data: Path = Path("data")
    """A data folder, or one token store."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A sound part of a data folder."""

    name: str
    n_bytes: int
    elapsed_s: float


def verify(config: VerifyConfig) -> list[Verified]:
    """Compare every file with its checksum, and the stores with the tokenizer beside them.

    Raises:
        UserError: Something is damaged: each damaged file is named.
    """
    data = config.data
    checks: list[tuple[str, int, Callable[[], None]]] = []
    if is_store(data):
        checks.append((str(data), *_store(data)))
    if (data / "corpus").is_dir():
        n_bytes = sum(size.n_file_bytes for size in read_sizes(data / "corpus").values())
        checks.append(("corpus", n_bytes, lambda: verify_corpus(data / "corpus")))
    checks += [(side, *_store(data / side)) for side in SIDES if is_store(data / side)]
    if not checks:
        raise UserError(
            "there is nothing to verify here",
            need="a data folder made by `groundup prepare`, or a token store",
            where=data,
            type_this="groundup verify data",
        )
    sound, damage = [], []
    for name, n_bytes, check in checks:
        started_at = time.perf_counter()
        try:
            check()
        except UserError as found:
            damage.append(str(found))
            continue
        elapsed_s = time.perf_counter() - started_at
        sound.append(Verified(name=name, n_bytes=n_bytes, elapsed_s=elapsed_s))
    if damage:
        raise UserError("\n".join(damage))
    return sound


def _store(folder: Path) -> tuple[int, Callable[[], None]]:
    n_bytes = sum(file.stat().st_size for file in folder.iterdir())

    def check() -> None:
        store = TokenStore.open(folder)
        store.verify()
        tokenizer = folder.parent / "tokenizer"
        if tokenizer.is_dir():
            fingerprint = load_tokenizer(tokenizer).fingerprint
            if fingerprint != store.tokenizer_fingerprint:
                raise UserError(
                    "these tokens were made with another tokenizer than the one beside them",
                    need="one and the same",
                    where=folder,
                    type_this=f"groundup train-tokenizer {quoted(folder.parent)}",
                )

    return n_bytes, check
