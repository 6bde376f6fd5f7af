"""A text classifier: a GPT with a linear head over its pooled hidden states.

Padding is on the right, where the causal mask hides it from the text, and pooling leaves it out.
A text therefore gets the same scores in any batch.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json, sha256_file, write_bytes, write_json
from groundup.base.run import RunFolder
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import pad_rows
from groundup.model.gpt import GPT
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.checkpoint_format import fill_model, load_model, load_tensors, save_model

Pooling = Literal["mean", "last"]
_log = logging.getLogger(__name__)


class Classifier(nn.Module):
    """A GPT and a linear head over its pooled final hidden states.

    Args:
        gpt: The language model. All of its weights are trained together with the head.
        names: Class names; class k is `names[k]`.
        pooling: "mean": the mean over all tokens of the text. "last": the last token, the only
            one that attends to the complete text.
        max_tokens: Longer texts are truncated to this; None uses the context length.
    """

    def __init__(
        self,
        gpt: GPT,
        names: Sequence[str],
        *,
        pooling: Pooling = "mean",
        max_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.gpt = gpt
        self.names = tuple(names)
        self.pooling: Pooling = pooling
        self.max_tokens = min(max_tokens or gpt.config.context_length, gpt.config.context_length)
        self.head = nn.Linear(gpt.config.d_model, len(self.names))
        # A zero head gives a uniform distribution: the first loss is ln(number of classes).
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, ids: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "B n_classes"]:
        """Compute the logits of each text; `lengths` are the numbers of tokens before padding."""
        hidden = self.gpt.hidden(ids)  # (B, T, C)
        if self.pooling == "last":
            pooled = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]  # (B, C)
        else:
            is_token = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # (B, T)
            weights = is_token.to(hidden.dtype) / lengths[:, None].to(hidden.dtype)
            pooled = torch.einsum("btc,bt->bc", hidden, weights)
        logits: Tensor = self.head(pooled.to(self.head.weight.dtype))
        return logits

    def loss(self, ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Compute the mean cross-entropy in nats.

        Batches have the shape of a language model's, so that both use the same training loop. Each
        row of targets has the label at the last token of the text and -100 everywhere else.
        """
        counted = targets != IGNORE_INDEX
        if not bool((counted.sum(dim=1) == 1).all()):
            raise ValueError("A row of targets must contain exactly one label, at its last token.")
        last = counted.int().argmax(dim=1)
        labels = targets[torch.arange(len(ids), device=ids.device), last]
        return nn.functional.cross_entropy(self.forward(ids, last + 1).float(), labels)


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Encode each text.

    Raises:
        UserError: A text has no tokens.
    """
    rows = [tokenizer.encode(text) for text in texts]
    for number, row in enumerate(rows, start=1):
        if not row:
            raise UserError(f"Text {number} is empty.")
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

    def probabilities(self, texts: Sequence[str], *, batch_size: int = 32) -> Float[Tensor, "B K"]:
        """Compute the probability of each class for each text; every row sums to one."""
        return self._probabilities(encode_texts(texts, self.tokenizer), batch_size)

    @torch.no_grad()
    def _probabilities(self, encoded: list[list[int]], batch_size: int) -> Float[Tensor, "B K"]:
        if not encoded:
            return torch.zeros(0, len(self.names))
        device = self.classifier.head.weight.device
        was_training = self.classifier.training
        self.classifier.eval()
        rows = [ids[: self.classifier.max_tokens] for ids in encoded]
        # Texts of similar length share a batch, which needs the least padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        result = torch.zeros(len(rows), len(self.names))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [rows[i] for i in chosen]
            lengths = torch.tensor([len(row) for row in batch], device=device)
            logits = self.classifier(pad_rows(batch, pad=0).to(device), lengths)
            result[torch.tensor(chosen)] = logits.float().softmax(dim=1).cpu()
        self.classifier.train(was_training)
        return result

    def predict(self, texts: Sequence[str], *, batch_size: int = 32) -> list[str]:
        """Return the most likely class of each text; a warning counts the texts that are cut.

        Raises:
            UserError: A text is empty.
        """
        encoded, max_tokens = encode_texts(texts, self.tokenizer), self.classifier.max_tokens
        n_cut = sum(len(ids) > max_tokens for ids in encoded)
        if n_cut:
            _log.warning(
                "%d of %d texts are longer than %d tokens and are cut to that length",
                n_cut, len(texts), max_tokens,
            )  # fmt: skip
        best = self._probabilities(encoded, batch_size).argmax(dim=1)
        return [self.names[int(k)] for k in best]


def save_classifier(loaded: LoadedClassifier, folder: Path) -> None:
    """Write the model, the head, `labels.json` and `tokenizer/` to a folder."""
    classifier = loaded.classifier
    save_model(classifier.gpt, folder)
    head = {name: t.detach().cpu().contiguous() for name, t in classifier.head.state_dict().items()}
    write_bytes(folder / "head.safetensors", to_bytes(head))
    loaded.tokenizer.save(folder / "tokenizer")
    # Written last: a folder with labels.json is complete.
    write_json(
        folder / "labels.json",
        {
            "names": list(classifier.names),
            "pooling": classifier.pooling,
            "max_tokens": classifier.max_tokens,
            "head_sha256": sha256_file(folder / "head.safetensors"),
        },
    )


def load_classifier(path: Path | str) -> LoadedClassifier:
    """Load a classifier that `classify` has written.

    Args:
        path: A run folder, or its `classifier` folder.

    Raises:
        UserError: There is no complete classifier, or a file is damaged or cannot be read.
    """
    path = Path(path)
    folder = path if (path / "labels.json").is_file() else path / "classifier"
    if not (folder / "labels.json").is_file():
        raise UserError(
            "There is no complete classifier here. A folder written by `groundup classify` is "
            "expected.",
            where=path,
            command=f"groundup classify {quoted(path)}" if RunFolder(path).checkpoints() else "",
        )
    try:
        labels = _read_labels(folder / "labels.json")
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
        )
        tensors = load_tensors(folder / "head.safetensors")
        fill_model(classifier.head, tensors, where=folder / "head.safetensors")
        return LoadedClassifier(classifier, load_tokenizer(folder / "tokenizer"))
    except OSError as error:
        raise UserError(
            f"This cannot be read ({error.strerror or error}). The folder of a classifier, as "
            "`groundup classify` writes it, is expected.",
            where=str(error.filename or folder),
        ) from error


def _read_labels(file: Path) -> dict[str, Any]:
    """Read and check labels.json."""
    labels = read_json(file)
    labels = labels if isinstance(labels, dict) else {}
    names = labels.get("names")
    is_valid = (
        isinstance(names, list)
        and len(names) >= 2
        and all(isinstance(name, str) for name in names)
        and labels.get("pooling") in get_args(Pooling)
        and type(labels.get("max_tokens")) is int
        and labels["max_tokens"] >= 1
        and isinstance(labels.get("head_sha256"), str)
    )
    if not is_valid:
        raise UserError("This file is damaged. Train the classifier again.", where=file)
    return labels
