"""The data stage beside its peers, in the same run: loader, order, memory, encoders, preparing.

    python benchmarks/bench_data.py [TEXT]

TEXT (any UTF-8 file) is repeated to the size a measurement needs; without one it is the built-in
text. Peers: nanoGPT's `get_batch` rule (a memory map of uint16, one slice for inputs and one for
targets a row, stacked), torch's DataLoader over the book's dataset as the book writes it, and the
encoders tokenizers, gigatoken, rustbpe where installed. Best of several tries; one thread unless
said otherwise. Prints a table and writes `bench_data.json` beside the working directory's files.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from groundup import TokenStore, Windows, create_dataloader_v1
from groundup.data.loader import Loader
from groundup.data.order import Permutation
from groundup.data.prepare import PrepareConfig, prepare
from groundup.text.builtin import python_reference
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.train_bpe import train_bpe

ROWS: list[dict[str, str | float]] = []


def row(
    what: str, ours: float, unit: str, bar: str = "", peer: str = "", theirs: float = 0
) -> None:
    ratio = f"{ours / theirs:7.1f} x {peer} ({theirs:,.1f})" if theirs else ""
    print(f"{what:58s} {ours:12,.1f} {unit:10s} {bar:14s} {ratio}", flush=True)
    ROWS.append({"what": what, "ours": ours, "unit": unit, "bar": bar, peer or "peer": theirs})


def rate(work: Callable[[], int], seconds: float = 0.5, tries: int = 5) -> float:
    """Give the best rate of `work`, which tells how much it did, in units a second."""
    work()
    best = 0.0
    for _ in range(tries):
        done, started_at = 0, time.perf_counter()
        while time.perf_counter() - started_at < seconds or not done:
            done += work()
        best = max(best, done / (time.perf_counter() - started_at))
    return best


def loader(folder: Path) -> None:
    rng = np.random.default_rng(0)
    n = 100_000_000
    ids = (rng.integers(0, 50_257, 1_000_000, dtype=np.uint16) for _ in range(n // 1_000_000))
    store = TokenStore.build(
        folder / "store", ids, vocab_size=50_257, tokenizer_fingerprint="", end_of_text=None
    )
    raw = folder / "store" / "tokens-00000.bin"
    np.fromfile(raw, dtype=np.uint16).sum(dtype=np.int64)  # into the page cache

    def nanogpt(T: int, B: int) -> int:
        data = np.memmap(raw, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - T, (B,))
        x = torch.stack([torch.from_numpy(data[i : i + T].astype(np.int64)) for i in starts])
        y = torch.stack(
            [torch.from_numpy(data[i + 1 : i + 1 + T].astype(np.int64)) for i in starts]
        )
        return x.numel() + 0 * y.numel()

    for T, B, bar in ((256, 64, "500"), (1024, 32, "900"), (1_500_000, 1, "2,000")):
        batches = Loader(Windows(store, T), B, seed=1)
        ours = rate(lambda b=batches: next(b)[0].numel()) / 1e6  # type: ignore[misc]
        theirs = rate(lambda T=T, B=B: nanogpt(T, B)) / 1e6  # type: ignore[misc]
        row(f"loader, T {T:,}, B {B}, shuffled", ours, "Mtokens/s", f">= {bar}", "nanoGPT", theirs)

    class Book(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __init__(self, ids: list[int], T: int) -> None:
            self.pairs = [
                (torch.tensor(ids[i : i + T]), torch.tensor(ids[i + 1 : i + T + 1]))
                for i in range(0, len(ids) - T, T)
            ]

        def __len__(self) -> int:
            return len(self.pairs)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.pairs[i]

    ids_2m = store.read(0, 2_000_000).tolist()
    book = Book(ids_2m, 1024)
    theirs_loader = torch.utils.data.DataLoader(book, 32, shuffle=True, drop_last=True)

    def one_epoch() -> int:
        return sum(inputs.numel() for inputs, _ in theirs_loader)

    def first_epoch() -> int:
        fresh = Book(ids_2m, 1024)
        loader = torch.utils.data.DataLoader(fresh, 32, shuffle=True, drop_last=True)
        return sum(inputs.numel() for inputs, _ in loader)

    batches = Loader(Windows(store, 1024), 32, seed=1)
    ours = rate(lambda: next(batches)[0].numel()) / 1e6
    row("loader beside the book's, its windows made", ours, "Mtokens/s", ">= 100 x", "DataLoader",
        rate(one_epoch) / 1e6)  # fmt: skip
    row("loader beside the book's, first epoch", ours, "Mtokens/s", ">= 100 x", "DataLoader",
        rate(first_epoch) / 1e6)  # fmt: skip


def order() -> None:
    for n in (10**6 + 3, 10**9 + 7, 10**12):
        permutation = Permutation(n, seed=1)
        block = np.arange(n // 3, n // 3 + 65_536)
        per_s = rate(lambda p=permutation, b=block: len(p(b)))  # type: ignore[misc]
        row(f"order, n = {n:,}, blocks of 65,536", 1e9 / per_s, "ns/index", "<= 30")


_MEMORY = """
import resource, sys, time
import numpy, torch
def mb():
    with open("/proc/self/statm") as f: return int(f.read().split()[1]) * 4096 / 1e6
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
numpy.zeros(1); torch.zeros(1)
before = mb()
started_at = time.perf_counter()
loader = Loader(Windows(TokenStore.open(sys.argv[1]), 1024), 32, seed=1)
next(loader)
first_ms = 1e3 * (time.perf_counter() - started_at)
most = 0
for k in range(1000):
    next(loader)
    if k % 20 == 0: most = max(most, mb())
loader.at(10**9)
started_at = time.perf_counter()
next(loader)
print(most - before, first_ms, 1e3 * (time.perf_counter() - started_at))
"""


def memory(folder: Path) -> None:
    for n in (100_000_000, 10_000_000_000):
        store = folder / f"sparse{n}"
        TokenStore.build(
            store, [[1, 2, 3]], vocab_size=50_257, tokenizer_fingerprint="", end_of_text=None
        )
        stretch(store, n)
        command = [sys.executable, "-c", _MEMORY, str(store)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        above_mb, first_ms, far_ms = map(float, told.split())
        row(f"memory, store of {n:,}, 1,000 batches of 32 x 1,024", above_mb, "MB", "< 100")
        row(f"first batch, store of {n:,}, shuffled", first_ms, "ms", "< 50")
        row("first batch after going to step 10**9", far_ms, "ms", "as the first")


def stretch(store: Path, n: int) -> None:
    """Make a store's only shard a sparse file of n tokens; its checksums no longer hold."""
    from groundup.data.store import _manifest_checksum

    with open(store / "tokens-00000.bin", "r+b") as file:
        file.truncate(2 * n)
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["n_tokens"] = manifest["shards"][0]["n_tokens"] = n
    manifest["manifest_sha256"] = _manifest_checksum(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))


def drop_in(text: str) -> None:
    import tracemalloc

    tokenizer = train_bpe([text[:300_000]], 2048)
    ids = len(tokenizer.encode(text[:2_000_000]))
    tracemalloc.start()
    kept = create_dataloader_v1(text[:2_000_000], 4, 1024, 1, tokenizer=tokenizer)
    tokenizer._cache.clear()
    n_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) > 0
    row("create_dataloader_v1, T 1,024, stride 1", n_bytes / ids, "bytes/token", "<= 8", "book",
        16 * 1024)  # fmt: skip


def encoders(text: str, folder: Path) -> None:
    text = (text * (1 + 8_000_000 // len(text)))[:8_000_000]
    n_bytes = len(text.encode("utf-8"))
    tokenizer = train_bpe([text[:1_000_000]], 8192)
    tokenizer.save(folder / "tokenizer")
    ours = fast_encoder(tokenizer)
    expected = ours(text)

    def show(name: str, encode: Callable[[], object], tries: int = 3) -> float:
        mb_per_s = rate(lambda: n_bytes * (encode() is not None), 0.1, tries) / 1e6
        row(f"encode, 1 thread: {name}", mb_per_s, "MB/s", ">= 6")
        return mb_per_s

    show("tiktoken's engine (what prepare uses)", lambda: ours(text))
    show("groundup's own Python", lambda: tokenizer.encode(text), 1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    for name, load in (("tokenizers", _tokenizers), ("gigatoken", _gigatoken)):
        try:
            theirs = load(folder / "tokenizer" / "tokenizer.json")
        except ImportError:
            print(f"{name} is not installed")
            continue
        except Exception as error:  # a peer that cannot open our file is told, not hidden
            print(f"{name} does not open our tokenizer.json: {error}")
            continue
        lines = [text[i : i + 100_000] for i in range(0, len(text), 100_000)]
        show(name, lambda encode=theirs, lines=lines: [encode(line) for line in lines], 1)  # type: ignore[misc]
        same = np.array_equal(np.asarray(theirs(text[:1_000_000])), ours(text[:1_000_000]))
        print(f"    ids {'equal to ours' if same else 'DIFFER from ours'}")
    assert np.array_equal(expected, tokenizer.encode(text))


def _tokenizers(path: Path) -> Callable[[str], object]:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text).ids


def _gigatoken(path: Path) -> Callable[[str], object]:
    import gigatoken  # type: ignore[import-not-found]

    tokenizer = gigatoken.Tokenizer(str(path))
    return lambda text: tokenizer.encode(text)


def preparing(text: str, folder: Path) -> None:
    """End to end, on all cores, beside the bare encoder on the same cores and the same text."""
    from concurrent.futures import ThreadPoolExecutor

    n_mb = 200
    file = folder / "big.txt"
    with open(file, "w", encoding="utf-8") as out:
        while out.tell() < n_mb * 10**6:
            out.write(text)
    size = file.stat().st_size
    tokenizer = train_bpe([text[:1_000_000]], 8192)
    tokenizer.save(folder / "t")
    encode = fast_encoder(tokenizer)
    n_threads = len(os.sched_getaffinity(0))
    pieces = [text[i : i + 1_000_000] for i in range(0, len(text), 1_000_000)]
    pieces = pieces * (size // max(1, sum(len(p.encode()) for p in pieces)))
    for audit in (False, True):
        bare = []
        whole = []
        for number in range(2):
            started_at = time.perf_counter()
            with ThreadPoolExecutor(n_threads) as pool:
                for _ in pool.map(encode, pieces):
                    pass
            n_bytes = sum(len(piece.encode()) for piece in pieces)
            bare.append(n_bytes / (time.perf_counter() - started_at) / 1e6)
            started_at = time.perf_counter()
            out = folder / f"data-{audit}-{number}"
            config = PrepareConfig(
                sources=(str(file),), out=out, tokenizer=str(folder / "t"), audit=audit
            )
            prepare(config)
            whole.append(size / (time.perf_counter() - started_at) / 1e6)
        row(f"prepare {n_mb} MB{' with audit' if audit else ''}, {n_threads} threads", max(whole),
            "MB/s", ">= 0.8 x", "bare encoder", max(bare))  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    paths = sys.argv[1:]
    text = "".join(Path(p).read_text(encoding="utf-8") for p in paths)
    text = text or "\n\n".join(document.text for document in python_reference())
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        loader(Path(folder))
        order()
        memory(Path(folder))
        drop_in(text)
        encoders(text, Path(folder))
        preparing(text, Path(folder))
    Path("bench_data.json").write_text(json.dumps(ROWS, indent=2) + "\n")


if __name__ == "__main__":
    main()
