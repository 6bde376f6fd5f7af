"""Losses, the training loop and the plot of chapter 5; chapters 6 and 7 use them too."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from groundup.base.errors import UserError
from groundup.book.generation import generate_text_simple, text_to_token_ids, token_ids_to_text

Device = torch.device | str | int


def calc_loss_batch(
    input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: Device
) -> Tensor:
    """Compute the mean cross-entropy of a batch in nats.

    Targets (B, T) are the next tokens of chapters 5 and 7, and -100 is left out. Targets (B,) are
    the classes of chapter 6, which the logits of the last position predict.
    """
    logits = model(input_batch.to(device))  # (B, T, V)
    if target_batch.ndim == 1:
        logits = logits[:, -1, :]
    return F.cross_entropy(logits.flatten(0, -2), target_batch.to(device).flatten())


def calc_loss_loader(
    data_loader: "DataLoader[Any]",
    model: nn.Module,
    device: Device,
    num_batches: int | None = None,
) -> float:
    """Compute the mean loss of the first `num_batches` batches; None: of all. NaN without any."""
    n = _count(data_loader, num_batches)
    total = 0.0
    for inputs, targets in islice(data_loader, n):
        total += calc_loss_batch(inputs, targets, model, device).item()
    return total / n if n else float("nan")


def evaluate_model(
    model: nn.Module,
    train_loader: "DataLoader[Any]",
    val_loader: "DataLoader[Any]",
    device: Device,
    eval_iter: int,
) -> tuple[float, float]:
    """Compute the training and the validation loss of `eval_iter` batches, without dropout."""
    model.eval()
    with torch.no_grad():
        train_loss = calc_loss_loader(train_loader, model, device, num_batches=eval_iter)
        val_loss = calc_loss_loader(val_loader, model, device, num_batches=eval_iter)
    model.train()
    return train_loss, val_loss


def generate_and_print_sample(
    model: nn.Module, tokenizer: Any, device: Device, start_context: str
) -> None:
    """Print the most likely 50 tokens after a text, on one line."""
    model.eval()
    encoded = text_to_token_ids(start_context, tokenizer).to(device)
    position_embedding = model.pos_emb
    assert isinstance(position_embedding, nn.Embedding)
    ids = generate_text_simple(
        model, encoded, max_new_tokens=50, context_size=position_embedding.num_embeddings
    )
    print(token_ids_to_text(ids, tokenizer).replace("\n", " "))  # noqa: T201
    model.train()


def train_model_simple(
    model: nn.Module,
    train_loader: "DataLoader[Any]",
    val_loader: "DataLoader[Any]",
    optimizer: Optimizer,
    device: Device,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
    start_context: str,
    tokenizer: Any,
) -> tuple[list[float], list[float], list[int]]:
    """Train a model, and print the losses every `eval_freq` steps and a sample after each epoch.

    Returns:
        Training losses, validation losses and the number of tokens seen, at each evaluation.

    Raises:
        UserError: The training loader has no batches.
    """
    check_batches(train_loader)
    train_losses, val_losses, track_tokens_seen = [], [], []
    tokens_seen, step = 0, -1
    for epoch in range(num_epochs):
        model.train()
        for inputs, targets in train_loader:
            update(model, optimizer, inputs, targets, device)
            tokens_seen += inputs.numel()
            step += 1
            if step % eval_freq == 0:
                losses = evaluate_model(model, train_loader, val_loader, device, eval_iter)
                print_losses(epoch, step, losses)
                train_losses.append(losses[0])
                val_losses.append(losses[1])
                track_tokens_seen.append(tokens_seen)
        generate_and_print_sample(model, tokenizer, device, start_context)
    return train_losses, val_losses, track_tokens_seen


def update(
    model: nn.Module, optimizer: Optimizer, inputs: Tensor, targets: Tensor, device: Device
) -> None:
    """Run one optimizer step on a batch."""
    optimizer.zero_grad()
    calc_loss_batch(inputs, targets, model, device).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def check_batches(train_loader: "DataLoader[Any]") -> None:
    """Check that there is something to train on.

    Raises:
        UserError: The loader has no batches.
    """
    if not len(train_loader):
        raise UserError(
            "The training loader has no batches, so nothing would be trained. A longer text, or a "
            "smaller max_length or batch_size is expected."
        )


def print_losses(epoch: int, step: int, losses: tuple[float, float]) -> None:
    """Print the line of one evaluation."""
    print(  # noqa: T201
        f"Ep {epoch + 1} (Step {step:06d}): Train loss {losses[0]:.3f}, Val loss {losses[1]:.3f}"
    )


def plot_losses(
    epochs_seen: Sequence[float | int] | Tensor | NDArray[Any],
    tokens_seen: Sequence[float | int] | Tensor | NDArray[Any],
    train_losses: Sequence[float | int],
    val_losses: Sequence[float | int],
) -> None:
    """Show the losses over epochs and tokens. No file is written, unlike in the book."""
    import matplotlib.pyplot as plt  # slow
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(figsize=(5, 3))
    axes.plot(epochs_seen, train_losses, label="Training loss")
    axes.plot(epochs_seen, val_losses, linestyle="-.", label="Validation loss")
    axes.set_xlabel("Epochs")
    axes.set_ylabel("Loss")
    axes.legend(loc="upper right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tokens_axes = axes.twiny()
    tokens_axes.plot(tokens_seen, train_losses, alpha=0)  # invisible: it only sets the ticks
    tokens_axes.set_xlabel("Tokens seen")
    figure.tight_layout()
    plt.show()


def _count(data_loader: "DataLoader[Any]", num_batches: int | None) -> int:
    return len(data_loader) if num_batches is None else min(num_batches, len(data_loader))
