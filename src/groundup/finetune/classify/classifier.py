"""A classifier on top of a language model: the same GPT with a small head for the classes.

The GPT reads the text; what it knows at the text's real tokens is pooled into one vector, and a
linear layer turns that into one score per class. Padding stands to the right, where causal
attention cannot see it, and is left out of the pooling: the same text gets the same scores in any
batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json, sha256_file, write_bytes, write_json
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import pad_rows
from groundup.model.gpt import GPT
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.checkpoint_format import load_model, save_model

Pooling = Literal["mean", "last"]


class Classifier(nn.Module):
    """A GPT and a linear head over its pooled final hidden states.

    Args:
        gpt: The language model; all of it is tuned together with the head.
        names: Class names; class k is `names[k]`.
        pooling: `mean` over the real tokens, or `last`: the state at the last real token, the
        only one that
            has seen the whole text.
        max_tokens: Longer texts are cut here; None: at the context.
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
        # Zero scores at the start: the first loss is ln(number of classes), which is easy to check.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, ids: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "B n_classes"]:
        """Score each class for each text; `lengths` counts the real tokens, padding follows."""
        hidden = self.gpt.hidden(ids)  # (B, T, C)
        if self.pooling == "last":
            pooled = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]  # (B, C)
        else:
            real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # (B, T)
            weights = real.to(hidden.dtype) / lengths[:, None].to(hidden.dtype)
            pooled = torch.einsum("btc,bt->bc", hidden, weights)
        scores: Tensor = self.head(pooled.to(self.head.weight.dtype))
        return scores

    def loss(self, ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats; the label stands in `targets` at the last real token.

        The shape is that of a language model's batch, so that one training loop serves both: here
        a text has a single target, and -100 everywhere else.
        """
        counted = targets != IGNORE_INDEX
        if not bool((counted.sum(dim=1) == 1).all()):
            raise ValueError("every row of targets needs exactly one label, at its last real token")
        last = counted.int().argmax(dim=1)
        labels = targets[torch.arange(len(ids), device=ids.device), last]
        return nn.functional.cross_entropy(self.forward(ids, last + 1).float(), labels)


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, context_length: int
) -> list[list[int]]:
    """Ids of each text, cut at the context; a text that encodes to nothing is an error.

    Raises:
        UserError: a text is empty.
    """
    rows = [tokenizer.encode(text)[:context_length] for text in texts]
    for number, row in enumerate(rows, start=1):
        if not row:
            raise UserError(f"text {number} is empty", need="a text to classify")
    return rows


class LoadedClassifier:
    """A classifier with its tokenizer: texts in, class names out."""

    def __init__(self, classifier: Classifier, tokenizer: Tokenizer) -> None:
        self.classifier = classifier.eval()
        self.tokenizer = tokenizer

    @property
    def names(self) -> tuple[str, ...]:
        """The class names."""
        return self.classifier.names

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str], *, batch_size: int = 32) -> Float[Tensor, "B K"]:
        """Probability of each class for each text; every row sums to one."""
        if not texts:
            return torch.zeros(0, len(self.names))
        device = self.classifier.head.weight.device
        was_training = self.classifier.training
        self.classifier.eval()
        rows = encode_texts(texts, self.tokenizer, self.classifier.max_tokens)
        # Texts of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        result = torch.zeros(len(rows), len(self.names))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [rows[i] for i in chosen]
            lengths = torch.tensor([len(row) for row in batch], device=device)
            scores = self.classifier(pad_rows(batch, pad=0).to(device), lengths)
            result[torch.tensor(chosen)] = scores.float().softmax(dim=1).cpu()
        self.classifier.train(was_training)
        return result

    def predict(self, texts: Sequence[str], *, batch_size: int = 32) -> list[str]:
        """The likeliest class of each text.

        Raises:
            UserError: a text is empty.
        """
        best = self.probabilities(texts, batch_size=batch_size).argmax(dim=1)
        return [self.names[int(k)] for k in best]


def save_classifier(loaded: LoadedClassifier, folder: Path) -> None:
    """Write the model, its head, `labels.json` and `tokenizer/` into a folder."""
    classifier = loaded.classifier
    save_model(classifier.gpt, folder)
    head = {name: t.detach().cpu().contiguous() for name, t in classifier.head.state_dict().items()}
    write_bytes(folder / "head.safetensors", to_bytes(head))
    loaded.tokenizer.save(folder / "tokenizer")
    # Last, so that a folder with labels.json is a finished one.
    write_json(
        folder / "labels.json",
        {
            "names": list(classifier.names),
            "pooling": classifier.pooling,
            "max_tokens": classifier.max_tokens,
            "head_sha256": sha256_file(folder / "head.safetensors"),
        },
    )


def load_classifier(path: Path) -> LoadedClassifier:
    """Open the classifier of a run (RUN or RUN/classifier).

    Raises:
        UserError: there is no classifier, or its head does not match its checksum.
    """
    folder = path if (path / "labels.json").is_file() else path / "classifier"
    if not (folder / "labels.json").is_file():
        raise UserError(
            "there is no finished classifier",
            where=path,
            type_this=f"groundup classify {quoted(path)}",
        )
    labels = read_json(folder / "labels.json")
    if sha256_file(folder / "head.safetensors") != labels["head_sha256"]:
        raise UserError("the head does not match its checksum", where=folder / "head.safetensors")
    classifier = Classifier(
        load_model(folder),
        labels["names"],
        pooling=labels["pooling"],
        max_tokens=labels["max_tokens"],
    )
    classifier.head.load_state_dict(load_file(folder / "head.safetensors"))
    return LoadedClassifier(classifier, load_tokenizer(folder / "tokenizer"))
