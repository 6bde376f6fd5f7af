"""Fuzz the readers of tokenizer files; run by hand, with coverage-guided mutations.

    pip install --target /tmp/atheris atheris
    PYTHONPATH=src:/tmp/atheris python tests/fuzz/fuzz_tokenizer_files.py -max_total_time=600

Each input is a format (first byte) and a file. A file must be refused with a UserError, or give the
ids of an independent reader: tokenizers, or tiktoken. Options are those of libFuzzer; a failing
input is written to `crash-...`, and its path as the only argument runs it again.
"""

import base64
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tokenizer"))

FILES = ["tokenizer.json", "vocab.json", "merges.txt", "some.tiktoken", "ladder.json"]
TEXTS = ["the cat's 12 mats sat aa aaa;  on the mat\n\n", "e\u0301 <|a|> \u017f 1234567 don't\r\n"]


def seeds(folder: Path) -> dict[str, bytes]:
    """Write small valid files."""
    from groundup.tokenizer.bpe import BPETokenizer
    from groundup.tokenizer.characters import CharacterTokenizer
    from groundup.tokenizer.files import save_gpt2, save_tiktoken
    from groundup.tokenizer.train_bpe import train_bpe

    small = train_bpe(TEXTS * 3, 275, pattern="gpt2", special_tokens=["<|endoftext|>", "<|a|>"])
    small.save(folder / "ours")
    save_gpt2(BPETokenizer(small.merges, special_tokens={}), folder / "two")
    save_tiktoken(small, folder / "some.tiktoken")
    CharacterTokenizer.from_text("".join(TEXTS), special_tokens=["<|a|>"]).save(folder / "list")
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def independent(name: str, folder: Path, ours: Any) -> Callable[[str], list[int]] | None:
    """Return the encoder of another library for the same files; None if it refuses them."""
    import tiktoken
    import tokenizers

    try:
        if name == "tokenizer.json":
            theirs = tokenizers.Tokenizer.from_file(str(folder / name))
        elif name == "some.tiktoken":
            lines = [line.split() for line in (folder / name).read_bytes().splitlines() if line]
            encoding = tiktoken.Encoding(
                "some",
                pat_str=ours.pattern,
                mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in lines},
                special_tokens=ours.special_tokens,
            )
            return lambda text: encoding.encode(text, allowed_special="all")
        elif name == "ladder.json":
            return None
        else:
            model = tokenizers.models.BPE.from_file(
                str(folder / "vocab.json"), str(folder / "merges.txt")
            )
            theirs = tokenizers.Tokenizer(model)
            theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            theirs.add_special_tokens(list(ours.special_tokens))
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return None
    return lambda text: theirs.encode(text, add_special_tokens=False).ids


def main() -> None:
    """Run until the time is over or an input fails."""
    import atheris  # type: ignore[import-not-found]
    from mutations import mutate, mutate_bytes

    with atheris.instrument_imports(include=["groundup.tokenizer"]):
        from groundup.base.errors import UserError
        from groundup.tokenizer.bpe import BPETokenizer
        from groundup.tokenizer.files import load_tokenizer
        from groundup.tokenizer.imported import ImportedTokenizer
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    sound = seeds(folder / "seeds")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, name in enumerate(FILES):
        (corpus / name).write_bytes(bytes([number]) + sound[name])
    place = folder / "damaged"
    place.mkdir()
    counts = {"accepted": 0, "refused": 0, "compared": 0}

    def one_input(data: bytes) -> None:
        if sum(counts.values()) % 50_000 == 49_999:
            print(counts, flush=True)
        name = FILES[data[0] % len(FILES)] if data else FILES[0]
        for old in place.iterdir():
            old.unlink()
        for other in {"vocab.json", "merges.txt"} if name in ("vocab.json", "merges.txt") else ():
            (place / other).write_bytes(sound[other])
        (place / name).write_bytes(data[1:])
        try:
            ours = load_tokenizer(place, pattern="gpt2")
        except UserError:
            counts["refused"] += 1
            return
        counts["accepted"] += 1
        if not isinstance(ours, BPETokenizer | ImportedTokenizer):
            for index in range(ours.vocab_size):
                ours.token_bytes(index)
            return
        theirs = independent(name, place, ours)
        for text in TEXTS:
            back = ours.decode(ours.encode(text))
            if isinstance(ours, BPETokenizer) and back != text:
                raise AssertionError((text, back))
            if theirs is not None and theirs(text) != ours.encode(text, "all"):
                raise AssertionError((text, theirs(text), ours.encode(text, "all")))
        counts["compared"] += theirs is not None

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        """Change the structure of a file half of the time, its bytes otherwise."""
        draw = random.Random(seed)
        if draw.random() < 0.4 or len(data) < 2:
            return bytes(atheris.Mutate(data, max_size))
        try:
            changed = json.dumps(mutate(json.loads(data[1:]), draw), ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            changed = mutate_bytes(data[1:], draw)
        return (data[:1] + changed)[:max_size]

    options = [sys.argv[0], "-max_len=60000", "-timeout=60", *sys.argv[1:]]
    replay = [word for word in sys.argv[1:] if not word.startswith("-")]
    atheris.Setup(options if replay else [*options, str(corpus)], one_input, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
