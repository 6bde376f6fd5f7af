"""The evaluation of a run: its loss on held-out text, beside two yardsticks on the same bytes."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from groundup.base.config import check_ranges
from groundup.base.device import choose_device
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_json
from groundup.base.run import RunFolder
from groundup.data.store import TokenStore
from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss, target_bytes
from groundup.evaluation.ngram_baseline import ByteNgrams
from groundup.evaluation.xz_baseline import xz_bits_per_byte

_log = logging.getLogger(__name__)
N_CONTEXT_BYTES = 3


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to measure."""

    run: Path = Path("runs/pretrain")
    """the run folder, or one of its checkpoints"""
    data: Path | None = None
    """data folder with train/ and validation/ stores; None: the one the run was trained on"""
    batch_size: int = 16
    """windows at once; changes memory and speed, not the result"""
    stride: int | None = None
    """how far the window slides; None: its own length; shorter: more context for each token"""
    device: str = "auto"
    """auto, cpu or cuda"""

    def __post_init__(self) -> None:
        check_ranges(self, (("batch_size", 1, math.inf), ("stride", 1, math.inf)))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the model reached, and what counting and compressing reach on the same bytes."""

    checkpoint: str
    nats: float
    perplexity: float
    bits_per_byte: float
    n_targets: int
    n_bytes: int
    train_nats: float
    ngram_bits_per_byte: float
    xz_bits_per_byte: float
    xz_alone_bits_per_byte: float

    @property
    def lost_to(self) -> tuple[str, ...]:
        """The yardsticks that predict these bytes better than the model does."""
        yardsticks = {
            f"the order-{N_CONTEXT_BYTES} n-gram": self.ngram_bits_per_byte,
            "xz": self.xz_bits_per_byte,
        }
        return tuple(name for name, bits in yardsticks.items() if bits <= self.bits_per_byte)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measure a run and write RUN/evaluation/loss.json.

    Raises:
        UserError: There is no model, no validation store, or the data are of another tokenizer.
    """
    language_model = load(config.run)
    tokenizer = language_model.tokenizer
    model = language_model.model.to(choose_device(config.device))
    run = config.run.resolve()
    # A checkpoint's results go to its run.
    run = run.parent.parent if run.parent.name == "checkpoints" else run
    data = config.data if config.data is not None else _data_of(run)
    stores = {name: _open_store(data, name) for name in ("train", "validation")}
    for name, store in stores.items():
        if store.tokenizer_fingerprint != tokenizer.fingerprint:
            raise UserError(
                "these tokens were made with another tokenizer than the model's",
                need="data encoded with the run's own tokenizer",
                where=data / name,
                type_this=f"groundup evaluate {quoted(config.run)} "
                "--data THE_DATA_IT_WAS_TRAINED_ON",
            )
    loss = evaluate_loss(
        model,
        stores["validation"],
        batch_size=config.batch_size,
        stride=config.stride,
        tokenizer=tokenizer,
    )
    # As many training windows as a glance needs: the gap to the validation loss tells overfitting.
    glance = evaluate_loss(model, stores["train"], batch_size=config.batch_size, max_windows=64)
    train_bytes = target_bytes(stores["train"], tokenizer, skip=0)
    held_out = target_bytes(stores["validation"], tokenizer)
    assert loss.n_bytes == len(held_out), "model and yardsticks must see the same bytes"
    if loss.bits_per_byte is None:
        raise UserError("the held-out text has no bytes", need="some text", where=data)
    _log.info("counting %d training bytes, compressing %d", len(train_bytes), len(held_out))
    compression = xz_bits_per_byte(train_bytes, held_out)
    evaluation = Evaluation(
        checkpoint=language_model.path.name,
        nats=loss.nats,
        perplexity=loss.perplexity,
        bits_per_byte=loss.bits_per_byte,
        n_targets=loss.n_targets,
        n_bytes=len(held_out),
        train_nats=glance.nats,
        ngram_bits_per_byte=ByteNgrams(train_bytes, N_CONTEXT_BYTES).bits_per_byte(held_out),
        xz_bits_per_byte=compression.best,
        xz_alone_bits_per_byte=compression.alone,
    )
    write_json(
        run / "evaluation" / "loss.json",
        {**vars(evaluation), "lost_to": list(evaluation.lost_to), "data": str(data)},
    )
    return evaluation


def _data_of(run: Path) -> Path:
    """The data folder a run was trained on, as its manifest tells; its own copy comes first."""
    if (run / "data" / "validation").is_dir():
        return run / "data"
    manifest = RunFolder(run).read_manifest()
    if "data" not in manifest:
        raise UserError(
            "this folder does not tell which data it was trained on",
            need="the data folder",
            where=run,
            type_this=f"groundup evaluate {quoted(run)} --data data",
        )
    return Path(manifest["data"])


def _open_store(data: Path, name: str) -> TokenStore:
    if not (data / name).is_dir():
        raise UserError(
            f"there is no {name} store here",
            need="data made by prepare and train-tokenizer",
            where=data,
            type_this=f"groundup prepare --out {quoted(data)}",
        )
    return TokenStore.open(data / name)
