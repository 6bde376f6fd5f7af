"""Compare data preparation and loading with peers: loader, order, memory, tokenizers, `prepare`.

    python benchmarks/bench_data.py [TEXT]

TEXT (any UTF-8 file) is repeated to the size that a measurement needs; the default is the built-in
text. Large texts are the Python sources of the installed packages. Peers: nanoGPT's `get_batch` (a
memory map of uint16, one slice for inputs and one for targets per row, stacked), torch's DataLoader
over the dataset of the book, the encoders tiktoken, tokenizers and gigatoken, and the trainers of
tokenizers and rustbpe (if installed). Results are the best of several tries, with one thread unless
stated otherwise. The script prints a table and writes `bench_data.json` to the working directory.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from groundup import TokenStore, Windows, create_dataloader_v1
from groundup.data.loader import Loader
from groundup.data.order import Permutation
from groundup.text.builtin import python_reference
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special import SPECIAL_TOKENS
from groundup.tokenizer.train_bpe import train_bpe

ROWS: list[dict[str, str | float]] = []


def row(
    what: str, ours: float, unit: str, bar: str = "", peer: str = "", theirs: float = 0
) -> None:
    ratio = f"{ours / theirs:7.1f} x {peer} ({theirs:,.1f})" if theirs else ""
    print(f"{what:58s} {ours:12,.1f} {unit:10s} {bar:14s} {ratio}", flush=True)
    ROWS.append({"what": what, "ours": ours, "unit": unit, "bar": bar, peer or "peer": theirs})


def rate(work: Callable[[], int], seconds: float = 0.5, tries: int = 5) -> float:
    """Measure the best rate of `work`, which returns its amount of work, in units per second."""
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
    row("loader vs. the book's, later epochs", ours, "Mtokens/s", ">= 100 x", "DataLoader",
        rate(one_epoch) / 1e6)  # fmt: skip
    row("loader vs. the book's, first epoch", ours, "Mtokens/s", ">= 100 x", "DataLoader",
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
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        above_mb, first_ms, far_ms = map(float, output.split())
        # A store of up to 512 MB stays completely mapped: its pages are in the page cache.
        bar = "< 100" if n > 10**9 else ""
        row(f"memory, store of {n:,}, 1,000 batches of 32 x 1,024", above_mb, "MB", bar)
        row(f"first batch, store of {n:,}, shuffled", first_ms, "ms", "< 50" if bar else "")
        row("first batch after a seek to step 10**9", far_ms, "ms", "as the first")


def stretch(store: Path, n: int) -> None:
    """Turn the only shard of a store into a sparse file of n tokens. Its checksum becomes wrong."""
    from groundup.data.manifest import manifest_checksum

    with open(store / "tokens-00000.bin", "r+b") as file:
        file.truncate(2 * n)
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["n_tokens"] = manifest["shards"][0]["n_tokens"] = n
    manifest["manifest_sha256"] = manifest_checksum(manifest)
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
    """Measure the encoders with one thread and the same vocabulary."""
    text = (text * (1 + 8_000_000 // len(text)))[:8_000_000]
    n_bytes = len(text.encode("utf-8"))
    tokenizer = train_bpe([text[:1_000_000]], 8192)
    tokenizer.save(folder / "tokenizer")
    path = folder / "tokenizer" / "tokenizer.json"
    expected = tokenizer.encode(text[:1_000_000])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    peers: dict[str, Callable[[], Callable[[str], object]]] = {
        "gigatoken (what prepare uses)": lambda: fast_encoder(tokenizer),
        "groundup's Python code": lambda: tokenizer.encode,
        "tiktoken": lambda: _tiktoken(tokenizer),
        "tokenizers": lambda: _tokenizers(path),
    }
    for name, load in peers.items():
        encode = load()
        same = np.array_equal(np.asarray(encode(text[:1_000_000])), expected)
        pieces = [text[i : i + 100_000] for i in range(0, len(text), 100_000)]
        started_at = time.perf_counter()
        for piece in pieces:
            encode(piece)
        mb_per_s = n_bytes / (time.perf_counter() - started_at) / 1e6
        row(f"encode, 1 thread, ids {'equal' if same else 'DIFFER'}: {name}", mb_per_s, "MB/s",
            ">= 6")  # fmt: skip


def _tiktoken(tokenizer: BPETokenizer) -> Callable[[str], object]:
    import tiktoken

    ranks = {token: i for i, token in enumerate(tokenizer.token_table[: -len(SPECIAL_TOKENS)])}
    engine = tiktoken.Encoding(
        "ours", pat_str=tokenizer.pattern, mergeable_ranks=ranks, special_tokens={}
    )
    return lambda text: engine.encode_to_numpy(text, disallowed_special=())


def _tokenizers(path: Path) -> Callable[[str], object]:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text).ids


def learning() -> None:
    """Train 32,768 ids on 100 MB of source code: the installed Python packages."""
    import tokenizers
    from tokenizers import Regex, models, pre_tokenizers, trainers

    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    texts = list(installed_sources(100_000_000))
    n_mb = sum(map(len, texts)) / 1e6
    started_at = time.perf_counter()
    ours = train_bpe(texts, 32_768)
    ours_s = time.perf_counter() - started_at
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS["gpt4"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=32_768 - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    started_at = time.perf_counter()
    model.train_from_iterator(texts, trainer)
    theirs_s = time.perf_counter() - started_at
    merges = json.loads(model.to_str())["model"]["merges"]
    spell, table = byte_spelling(), ours.token_table
    spelled = [["".join(spell[b] for b in table[i]) for i in pair] for pair in ours.merges]
    row(f"train 32,768 ids on {n_mb:,.0f} M characters", n_mb / ours_s, "MB/s", ">= 1 x",
        "tokenizers", n_mb / theirs_s)  # fmt: skip
    common = {tuple(pair) for pair in spelled} & {tuple(pair) for pair in merges}
    n_equal = next((i for i, (a, b) in enumerate(zip(spelled, merges, strict=True)) if a != b),
                   len(merges))  # fmt: skip
    # Oniguruma's Unicode tables are older than those of regex: letters of new scripts are split
    # differently.
    print(f"    merges: the first {n_equal:,} equal, {len(common):,} of {len(merges):,} in common")
    try:
        import rustbpe  # type: ignore[import-not-found]
    except ImportError:
        print("rustbpe is not installed")
        return
    started_at = time.perf_counter()
    rustbpe.Tokenizer().train_from_iterator(iter(texts), 32_764, pattern=PATTERNS["gpt4"])
    row("    vs. rustbpe, which breaks ties differently", n_mb / ours_s, "MB/s", "",
        "rustbpe", n_mb / (time.perf_counter() - started_at))  # fmt: skip


def installed_sources(n_bytes: int) -> Iterator[str]:
    """Yield distinct Python files of the installed packages, up to a number of bytes."""
    seen: set[bytes] = set()
    for path in sorted(Path(torch.__file__).parents[1].rglob("*.py")):
        data = path.read_bytes()
        digest = hashlib.md5(data).digest()
        if digest in seen or len(data) > 1_000_000:
            continue
        seen.add(digest)
        try:
            yield data.decode("utf-8")
        except UnicodeDecodeError:
            continue
        n_bytes -= len(data)
        if n_bytes <= 0:
            return


_PREPARE = """
import json, sys
from pathlib import Path
from time import perf_counter
from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode
source, out, tokenizer, audit = sys.argv[1:]
started_at = perf_counter()
prepare_and_encode(PrepareAndEncodeConfig(sources=(source,), out=Path(out), tokenizer=tokenizer,
                                          audit=audit == "True"))
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(perf_counter() - started_at, int(peak) / 1e3)
"""


def preparing(folder: Path) -> None:
    """Measure `prepare` end to end in a separate process, and the encoders alone on its text."""
    from concurrent.futures import ThreadPoolExecutor

    n_bytes = 2_000_000_000
    text = "".join(installed_sources(100_000_000))
    file = folder / "big.txt"
    with open(file, "w", encoding="utf-8") as out:
        while out.tell() < n_bytes:
            out.write(text)
    tokenizer = train_bpe([text[:5_000_000]], 8192)
    tokenizer.save(folder / "t")
    n_threads = len(os.sched_getaffinity(0))
    pieces = [text[i : i + 1_000_000] for i in range(0, len(text), 1_000_000)]
    size = len(text.encode())
    encoders_mb_per_s = {}
    for name, encode, n in (
        ("tiktoken, all cores", _tiktoken(tokenizer), n_threads),
        ("gigatoken, one core", fast_encoder(tokenizer), 1),
    ):
        with ThreadPoolExecutor(n) as pool:
            started_at = time.perf_counter()
            for _ in pool.map(encode, pieces):
                pass
            encoders_mb_per_s[name] = size / (time.perf_counter() - started_at) / 1e6
    for audit in (False, True):
        data = folder / f"data-{audit}"
        command = [sys.executable, "-c", _PREPARE, file, data, folder / "t", str(audit)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        elapsed_s, peak_mb = map(float, output.split())
        shutil.rmtree(data)
        for name, mb_per_s in encoders_mb_per_s.items():
            row(f"prepare 2 GB{' with audit' if audit else ''}", n_bytes / elapsed_s / 1e6, "MB/s",
                ">= 0.8 x", name, mb_per_s)  # fmt: skip
        row(f"peak memory of prepare{' with audit' if audit else ''}", peak_mb, "MB", "< 300")
    file.unlink()


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
        learning()
        preparing(Path(folder))
    Path("bench_data.json").write_text(json.dumps(ROWS, indent=2) + "\n")


if __name__ == "__main__":
    main()
