"""Where fine-tuning starts: the model of a run, its tokenizer, and the text it was made of."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from groundup.base.device import choose_device, set_threads
from groundup.base.errors import UserError
from groundup.base.malloc import keep_freed
from groundup.evaluation.load import LanguageModel, load
from groundup.text.corpus import read_corpus
from groundup.text.documents import Document
from groundup.train.loop import Batch, Step, train_steps
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import Schedule

OnStep = Callable[[Step], None]
"""Called after every move of the parameters."""


def open_foundation(run: Path, *, device: str, threads: int | None) -> LanguageModel:
    """Load the model of a run onto the device, ready to be tuned.

    Raises:
        UserError: there is no whole model, or no such device.
    """
    where = choose_device(device)
    set_threads(threads)
    keep_freed()
    foundation = load(run)
    foundation.model.to(where)
    return foundation


def documents_of(run: Path, data: Path | None, split: str) -> list[Document]:
    """The documents a run was trained on ("train") or kept from it ("validation").

    Args:
        run: The run folder; its config.toml names the data folder.
        data: The data folder, if it is to be another one.
        split: "train" or "validation".

    Raises:
        UserError: the run does not name a data folder that is still there.
    """
    return list(read_corpus(data or _data_folder(run), split))


def _data_folder(run: Path) -> Path:
    # The run folder itself, or two floors up from RUN/checkpoints/step-000500.
    for folder in (run, *run.resolve().parents[:2]):
        path = folder / "config.toml"
        if path.is_file():
            named = tomllib.loads(path.read_text(encoding="utf-8")).get("data")
            if isinstance(named, str) and (Path(named) / "corpus").is_dir():
                return Path(named)
            raise UserError(
                f"its text ({named}) is not there any more",
                where=path,
                need="the data folder the run was made of",
                type_this="--data FOLDER",
            )
    raise UserError(
        "no config.toml tells which text this model was made of",
        where=run,
        need="a data folder",
        type_this="--data FOLDER",
    )


def tune(
    model: torch.nn.Module,
    batches: Iterator[Batch],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: Optimizer,
    *,
    n_steps: int,
    on_step: OnStep | None,
) -> list[Step]:
    """Run the one training loop with the settings fine-tuning shares.

    A short warm-up keeps the first steps, in which the new task is all surprise, from wrecking
    what the model knows; then the rate falls linearly to zero.
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
