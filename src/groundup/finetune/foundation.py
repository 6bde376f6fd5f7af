"""What fine-tuning starts from: the model of a run, its tokenizer, and its documents."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from groundup.base.device import choose_device, set_threads
from groundup.base.malloc import keep_freed
from groundup.base.run import RunFolder
from groundup.data.run_data import data_of
from groundup.evaluation.load import LanguageModel, load
from groundup.text.corpus import read_corpus
from groundup.text.documents import Document
from groundup.train.loop import Batch, Step, train_steps
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import Schedule

OnStep = Callable[[Step], None]
"""Called after every optimizer step."""


def open_foundation(run: Path, *, device: str, threads: int | None) -> LanguageModel:
    """Load the model of a run onto the device for fine-tuning.

    Raises:
        UserError: There is no intact model, or no such device.
    """
    where = choose_device(device)
    set_threads(threads)
    keep_freed()
    foundation = load(run)
    foundation.model.to(where)
    return foundation


def documents_of(run: Path, data: Path | None, split: str) -> list[Document]:
    """Read the documents that a run was trained on ("train") or validated on ("validation").

    Args:
        run: The run folder, or any path inside it.
        data: The data folder. None: the data of the run.
        split: "train" or "validation".

    Raises:
        UserError: The data of the run was not found, or has changed since.
    """
    return list(read_corpus(data_of(RunFolder.of(run)) if data is None else data, split))


def tune(
    model: torch.nn.Module,
    batches: Iterator[Batch],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: Optimizer,
    *,
    n_steps: int,
    on_step: OnStep | None,
) -> list[Step]:
    """Run the training loop with the settings that all fine-tuning shares.

    A short warmup protects the pretrained weights from the large gradients of the first steps;
    then the learning rate decays linearly to zero.
    """
    model.train()
    schedule = Schedule(n_steps=n_steps, warmup_steps=min(10, n_steps // 2), decay_frac=0.8)
    steps: list[Step] = []
    for step in train_steps(batches, loss, optimizer, schedule, max_grad_norm=1.0):
        steps.append(step)
        if on_step is not None:
            on_step(step)
    model.eval()
    return steps
