"""Write the metrics of a run for TensorBoard, in addition to metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.base.extras import needed
from groundup.base.files import in_place

_KEPT = "the run's checkpoints are intact"


class TensorBoardWriter:
    """Write each metric of a step as a scalar.

    Args:
        folder: The log folder: `tensorboard --logdir FOLDER`.
        step: Number of finished steps; later points of an earlier session are dropped.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        needed("tensorboard", "tensorboard", "tensorboard=True")
        self.folder = folder
        self._open(step)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one line of metrics.jsonl."""
        with in_place(self.folder, _KEPT):
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, row["step"])

    def go_back(self, step: int) -> None:
        """Drop the points after `step`."""
        self.close()
        self._open(step)

    def close(self) -> None:
        """Flush and close the event file."""
        with in_place(self.folder, _KEPT):
            self._writer.close()

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1)
