"""A trained classifier with its tokenizer: use it, save it, load it.

The folder of a classifier is complete: it has the weights, the head, the tokenizer and the class
names, and works wherever it is moved. Weights that were not trained are a hard link to those of the
run, which takes no space on the disk; where the file system has no links they are copied.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from safetensors.torch import save as to_bytes
from torch import Tensor

from groundup.base.device import choose_device
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json, sha256_file, write_bytes, write_json
from groundup.base.newest_run import newest_tuned
from groundup.base.run import RunFolder
from groundup.evaluation.load import CLASSIFIER_MARK
from groundup.finetune.classify.fixed_shapes import OnTokens, run_texts
from groundup.finetune.classify.heads import Classifier, Pooling
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.checkpoint_format import fill_model, load_model, load_tensors, save_model

_log = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_HEAD_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Encode each text.

    Raises:
        UserError: A text has no tokens.
    """
    rows = [tokenizer.encode(text) for text in texts]
    for number, row in enumerate(rows, start=1):
        if not row:
            raise UserError(
                f"Text {number} is empty. A text of at least one character is expected."
            )
    return rows


class LoadedClassifier:
    """A classifier with its tokenizer: takes texts, returns class names."""

    def __init__(self, classifier: Classifier, tokenizer: Tokenizer) -> None:
        self.classifier = classifier.eval()
        self.tokenizer = tokenizer

    @property
    def names(self) -> tuple[str, ...]:
        """The class names."""
        return self.classifier.names

    def probabilities(
        self, texts: Sequence[str], *, on_tokens: OnTokens | None = None
    ) -> Float[Tensor, "N K"]:
        """Compute the probability of each class for each text; every row sums to one.

        The result for a text does not depend on the other texts.

        Raises:
            UserError: A text is empty.
        """
        rows, max_tokens = encode_texts(texts, self.tokenizer), self.classifier.max_tokens
        n_cut = sum(len(ids) > max_tokens for ids in rows)
        if n_cut:
            _log.warning(
                "%d of %d texts are longer than %d tokens and are cut to that length",
                n_cut, len(texts), max_tokens,
            )  # fmt: skip
        return self.of_rows([ids[:max_tokens] for ids in rows], on_tokens)

    def of_rows(
        self, rows: Sequence[Sequence[int]], on_tokens: OnTokens | None = None
    ) -> Float[Tensor, "N K"]:
        """Compute the probabilities of texts that are given as token ids."""
        classifier = self.classifier
        was_training = classifier.training
        classifier.eval()
        found = torch.zeros(len(rows), len(self.names), dtype=torch.float64)

        def take(
            numbers: list[int], hidden: Float[Tensor, "B T C"], lengths: Int[Tensor, " B"]
        ) -> None:
            logits = classifier.classify(hidden, lengths).double()
            found[torch.tensor(numbers)] = logits.softmax(dim=1)[: len(numbers)].cpu()

        run_texts(
            classifier.gpt.hidden,
            rows,
            take,
            device=classifier.head.weight.device,
            dtype=classifier.dtype,
            limit=classifier.gpt.config.context_length,
            on_tokens=on_tokens,
        )
        classifier.train(was_training)
        return found

    @torch.no_grad()
    def cool(self, temperature: float) -> None:
        """Divide the logits by a temperature from now on."""
        for parameter in self.classifier.head.parameters():
            parameter.div_(temperature)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most likely class of each text; a warning counts the texts that are cut.

        Raises:
            UserError: A text is empty.
        """
        return [self.names[int(k)] for k in self.probabilities(texts).argmax(dim=1)]


def save_classifier(loaded: LoadedClassifier, folder: Path, *, base: Path | None = None) -> None:
    """Write the weights, the head, the tokenizer and `labels.json` to a folder.

    Args:
        loaded: The classifier.
        folder: The folder.
        base: A checkpoint with exactly the weights of the GPT, which are linked or copied. None:
            the weights were trained, and are written.
    """
    classifier = loaded.classifier
    if base is None:
        save_model(classifier.gpt, folder)
    else:
        link_weights(base, folder)
    loaded.tokenizer.save(folder / "tokenizer")
    save_head(loaded, folder)


def save_head(loaded: LoadedClassifier, folder: Path) -> None:
    """Write the head and `labels.json`, the last files of a classifier."""
    classifier = loaded.classifier
    head = {name: t.detach().cpu().contiguous() for name, t in classifier.head.state_dict().items()}
    write_bytes(folder / "head.safetensors", to_bytes(head))
    write_json(
        folder / CLASSIFIER_MARK,
        {
            "names": list(classifier.names),
            "pooling": classifier.pooling,
            "max_tokens": classifier.max_tokens,
            "dtype": next(n for n, dtype in _DTYPES.items() if dtype == classifier.dtype),
            "head_dtype": str(classifier.head.weight.dtype).removeprefix("torch."),
            "head_sha256": sha256_file(folder / "head.safetensors"),
        },
    )


def link_weights(base: Path, folder: Path) -> None:
    """Put the weights of a checkpoint into a folder, as a hard link where that is possible."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in read_json(base / "model.json")["weights"]:
        (folder / name).unlink(missing_ok=True)
        try:
            os.link(base / name, folder / name)
        except OSError:
            shutil.copyfile(base / name, folder / name)
    shutil.copyfile(base / "model.json", folder / "model.json")


def find_classifier(path: Path | str) -> Path:
    """Find the newest complete one of RUN/classifier, RUN/classifier-2, ..., or the path itself.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    if (path / CLASSIFIER_MARK).is_file():
        return path
    newest = newest_tuned(path, "classifier")
    if newest is None:
        raise UserError(
            "There is no complete classifier here. A folder written by `groundup classify` is "
            "expected.",
            where=path,
            command=f"groundup classify {quoted(path)}" if RunFolder(path).checkpoints() else "",
        )
    return newest


def load_classifier(path: Path | str, *, device: str = "cpu") -> LoadedClassifier:
    """Load a classifier that `classify` has written.

    Args:
        path: A run folder, or the folder of a classifier.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: There is no complete classifier, or a file is damaged or cannot be read.
    """
    folder = find_classifier(path)
    try:
        labels = _read_labels(folder / CLASSIFIER_MARK)
        if sha256_file(folder / "head.safetensors") != labels["head_sha256"]:
            raise UserError(
                "This file does not match its checksum. Train the classifier again.",
                where=folder / "head.safetensors",
            )
        classifier = Classifier(
            load_model(folder),
            labels["names"],
            pooling=labels["pooling"],
            max_tokens=labels["max_tokens"],
            dtype=_DTYPES[labels["dtype"]],
        )
        classifier.head.to(_HEAD_DTYPES[labels["head_dtype"]])
        tensors = load_tensors(folder / "head.safetensors")
        fill_model(classifier.head, tensors, where=folder / "head.safetensors")
        classifier.to(choose_device(device))
        return LoadedClassifier(classifier, load_tokenizer(folder / "tokenizer"))
    except OSError as error:
        raise UserError(
            f"This cannot be read ({error.strerror or error}). The folder of a classifier, as "
            "`groundup classify` writes it, is expected.",
            where=str(error.filename or folder),
        ) from error


def _read_labels(file: Path) -> dict[str, Any]:
    """Read and check labels.json; those of version 0.1 do not state the number formats."""
    labels = read_json(file)
    old = {"dtype": "fp32", "head_dtype": "float32"}
    labels = old | (labels if isinstance(labels, dict) else {})
    names = labels.get("names")
    is_valid = (
        isinstance(names, list)
        and len(names) >= 2
        and all(isinstance(name, str) for name in names)
        and labels.get("pooling") in get_args(Pooling)
        and type(labels.get("max_tokens")) is int
        and int(labels["max_tokens"]) >= 1
        and labels["dtype"] in _DTYPES
        and labels["head_dtype"] in _HEAD_DTYPES
        and isinstance(labels.get("head_sha256"), str)
    )
    if not is_valid:
        raise UserError("This file is damaged. Train the classifier again.", where=file)
    return labels
