"""Fuzz the readers of token files; run by hand, with coverage-guided mutations.

    pip install --target /tmp/atheris atheris
    PYTHONPATH=src:/tmp/atheris python tests/fuzz/fuzz_token_files.py -max_total_time=600

Each input is a format (first byte) and a file of nanoGPT, llm.c or Megatron, or a file of a token
store. It must be refused with a UserError, or give ids of the vocabulary that are in the file.
Options are those of libFuzzer; a failing input is written to `crash-...`, and its path as the only
argument runs it again.
"""

import random
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

FORMATS = ["nanogpt", "llmc", "megatron", "manifest.json", "documents.npy", "tokens-00000.bin"]
N_IDS, END = 1000, 9
NUMBERS = [0, 1, -1, 2, 7, 8, 2**15, 2**16, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63)]


def main() -> None:
    """Run until the time is over or an input fails."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["groundup.data", "groundup.base"]):
        from groundup.base.errors import UserError
        from groundup.data.interchange import read_tokens, write_tokens
        from groundup.data.store import TokenStore
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    store = TokenStore.build(
        folder / "store", [[1, 2, 3], [4, 500], [6]], vocab_size=N_IDS,
        tokenizer_fingerprint="t", end_of_text=END,
    )  # fmt: skip
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, name in enumerate(FORMATS[:3]):
        write_tokens(store, folder / "seed.bin", name)  # type: ignore[arg-type]
        first = (folder / "seed.idx") if name == "megatron" else folder / "seed.bin"
        (corpus / name).write_bytes(bytes([number]) + first.read_bytes())
    ids = (folder / "seed.bin").read_bytes()
    parts = {path.name: path.read_bytes() for path in (folder / "store").iterdir()}
    for number, name in enumerate(FORMATS[3:], 3):
        (corpus / name).write_bytes(bytes([number]) + parts[name])
    counts = {"accepted": 0, "refused": 0}

    def read(name: str, data: bytes) -> None:
        place = folder / "damaged"
        if name in parts:
            place.mkdir(exist_ok=True)
            for other, content in parts.items():
                (place / other).write_bytes(data if other == name else content)
            opened = TokenStore.open(place)
            found = opened.read(0, opened.n_tokens)
            if len(found) != opened.n_tokens:
                raise AssertionError((len(found), opened.n_tokens))
            for number in range(min(opened.n_documents, 100)):
                opened.document_starts[number]
            return
        is_megatron = name == "megatron"
        (folder / "f.bin").write_bytes(ids if is_megatron else data)
        (folder / "f.idx").write_bytes(data)
        n_read = 0
        documents = read_tokens(folder / "f.bin", name, END, N_IDS)  # type: ignore[arg-type]
        for document in documents:
            n_read += len(document)
            if len(document) and not 0 <= int(document.min()) <= int(document.max()) < N_IDS:
                raise AssertionError(document)
        if n_read > len(ids if is_megatron else data):
            raise AssertionError(n_read)

    def one_input(data: bytes) -> None:
        if sum(counts.values()) % 50_000 == 49_999:
            print(counts, flush=True)
        try:
            read(FORMATS[data[0] % len(FORMATS)] if data else FORMATS[0], data[1:])
            counts["accepted"] += 1
        except UserError:
            counts["refused"] += 1

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        """Write a number of a header anew half of the time, change bytes otherwise."""
        draw = random.Random(seed)
        if draw.random() < 0.5 or len(data) < 20:
            return bytes(atheris.Mutate(data, max_size))
        kind = draw.choice("bhiq")
        size = struct.calcsize(kind)
        at = 1 + draw.choice([0, 1, 9]) + size * draw.randrange(max(1, (len(data) - 10) // size))
        number = np.array([draw.choice(NUMBERS)]).astype(f"<i{size}").tobytes()
        return (data[:at] + number + data[at + size :])[:max_size]

    options = [sys.argv[0], "-max_len=4096", "-timeout=20", *sys.argv[1:]]
    replay = [word for word in sys.argv[1:] if not word.startswith("-")]
    atheris.Setup(options if replay else [*options, str(corpus)], one_input, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
