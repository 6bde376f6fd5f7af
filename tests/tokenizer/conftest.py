# The package is imported inside fixtures: the plugin of jaxtyping has to come before it.
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def gpt2_folder(shared_data: Path) -> Path:
    """GPT-2's own vocabulary and merges."""
    return shared_data / "gpt2-tokenizer"


@pytest.fixture(scope="session")
def small_gpt2_folder(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer in the format of GPT-2's two files."""
    from groundup.tokenizer.bpe import BPETokenizer
    from groundup.tokenizer.files import save_gpt2
    from groundup.tokenizer.special import END_OF_TEXT
    from groundup.tokenizer.train_bpe import train_bpe

    text = (fixtures / "the-ferry.txt").read_text(encoding="utf-8")
    merges = train_bpe([text], 700, pattern="gpt2", special_tokens=()).merges
    special_tokens = {END_OF_TEXT: 256 + len(merges)}
    folder = tmp_path_factory.mktemp("small-gpt2")
    save_gpt2(BPETokenizer(merges, pattern="gpt2", special_tokens=special_tokens), folder)
    (folder / "vocab.json").rename(folder / "encoder.json")
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    return folder
