"""Fine-tuning a classifier, as chapter 6 does it.

The book replaces the head, `model.out_head = torch.nn.Linear(768, 2)`, and classifies a text by the
logits of its last token. `calc_loss_batch` knows these batches by their targets (B,).
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from groundup.base.errors import UserError
from groundup.book.training import Device, check_batches, evaluate_model, print_losses, update
from groundup.data.encoder import Encoder, check_ids
from groundup.text.config import FileConfig
from groundup.text.records import read_records


class SpamDataset(Dataset[tuple[Tensor, Tensor]]):
    """The rows of a CSV file with the columns Label (a number) and Text, as (ids, label).

    Args:
        csv_file: File with a header line.
        tokenizer: Tokenizer with `encode(text)`.
        max_length: Number of ids of each text: shorter ones are padded, longer ones cut. None: as
            many as the longest text has.
        pad_token_id: Id of the padding.

    Raises:
        UserError: The file cannot be read, lacks a column or has a row of another width, or a label
            is no whole number.
    """

    def __init__(
        self,
        csv_file: str | Path,
        tokenizer: Encoder,
        max_length: int | None = None,
        pad_token_id: int = 50256,
    ) -> None:
        self.data = _read_rows(csv_file)
        texts = [check_ids(tokenizer.encode(row["Text"])).tolist() for row in self.data]
        self.max_length = max(map(len, texts), default=0) if max_length is None else max_length
        self.encoded_texts = [
            ids[: self.max_length] + [pad_token_id] * (self.max_length - len(ids)) for ids in texts
        ]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the ids (T,) of a text and its label ()."""
        label = self.data[index]["Label"]
        return torch.tensor(self.encoded_texts[index]), torch.tensor(label)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.data)


def _read_rows(csv_file: str | Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for record in read_records(str(csv_file), FileConfig(format="csv"), fields=("Label", "Text")):
        row = dict(record.values)
        label = str(row.get("Label", "")).strip()
        if not isinstance(row.get("Text"), str) or not label.isdecimal():
            raise UserError(
                f"The label is {label!r} and the columns are {', '.join(row)}. A column Label of "
                "whole numbers and a column Text are expected.",
                where=record.where,
            )
        row["Label"] = int(label)
        rows.append(row)
    return rows


def calc_accuracy_loader(
    data_loader: "DataLoader[Any]",
    model: nn.Module,
    device: Device,
    num_batches: int | None = None,
) -> float:
    """Compute the share of texts of the first `num_batches` batches with the right class.

    None: of all batches. Without any, it is NaN. Like the book's, it leaves the model in
    evaluation mode.
    """
    model.eval()
    n_right, n_texts = 0, 0
    for inputs, targets in islice(data_loader, num_batches):
        with torch.no_grad():
            logits = model(inputs.to(device))[:, -1, :]  # (B, number of classes)
        n_right += int((logits.argmax(dim=-1) == targets.to(device)).sum())
        n_texts += len(targets)
    return n_right / n_texts if n_texts else float("nan")


def train_classifier_simple(
    model: nn.Module,
    train_loader: "DataLoader[Any]",
    val_loader: "DataLoader[Any]",
    optimizer: Optimizer,
    device: Device,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
) -> tuple[list[float], list[float], list[float], list[float], int]:
    """Train a classifier; print losses every `eval_freq` steps, and accuracies after each epoch.

    Returns:
        Training losses, validation losses, training accuracies, validation accuracies, and the
        number of examples seen.

    Raises:
        UserError: The training loader has no batches.
    """
    check_batches(train_loader)
    train_losses, val_losses = [], []
    accuracies: tuple[list[float], list[float]] = ([], [])
    examples_seen, step = 0, -1
    for epoch in range(num_epochs):
        model.train()
        for inputs, targets in train_loader:
            update(model, optimizer, inputs, targets, device)
            examples_seen += len(inputs)
            step += 1
            if step % eval_freq == 0:
                losses = evaluate_model(model, train_loader, val_loader, device, eval_iter)
                print_losses(epoch, step, losses)
                train_losses.append(losses[0])
                val_losses.append(losses[1])
        for loader, found in zip((train_loader, val_loader), accuracies, strict=True):
            found.append(calc_accuracy_loader(loader, model, device, num_batches=eval_iter))
        print(  # noqa: T201
            f"Training accuracy: {accuracies[0][-1]:.2%} | "
            f"Validation accuracy: {accuracies[1][-1]:.2%}"
        )
    return train_losses, val_losses, *accuracies, examples_seen


def classify_review(
    text: str,
    model: nn.Module,
    tokenizer: Encoder,
    device: Device,
    max_length: int | None = None,
    pad_token_id: int = 50256,
    names: Sequence[str] = ("not spam", "spam"),
) -> str:
    """Return "spam" or "not spam": the name of the class that a model predicts for a text."""
    model.eval()
    position_embedding = model.pos_emb
    assert isinstance(position_embedding, nn.Embedding)
    context_length = position_embedding.num_embeddings
    length = context_length if max_length is None else min(max_length, context_length)
    ids: list[int] = check_ids(tokenizer.encode(text)).tolist()[:length]
    if max_length is not None:
        ids += [pad_token_id] * (length - len(ids))
    with torch.no_grad():
        logits = model(torch.tensor([ids], device=device))[:, -1, :]
    return names[int(logits.argmax(dim=-1))]
