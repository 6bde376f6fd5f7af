"""How often a run reads its texts, and how many of their tokens are targets."""

from pathlib import Path

import numpy as np

from groundup.data.ledger import count_predictions
from groundup.data.mixture import Mixture
from groundup.data.windows import Windows
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, training_windows


class TextUse:
    """What the windows of a run take from the training set, or from those of a mixture.

    Args:
        config: The settings of the run.
        data: Its texts.
        windows: Their windows, if they are made already.

    Raises:
        UserError: See `training_windows`.
    """

    def __init__(
        self, config: PretrainConfig, data: Data, windows: Windows | Mixture | None = None
    ) -> None:
        windows = training_windows(config, data) if windows is None else windows
        parts = windows.parts if isinstance(windows, Mixture) else [windows]
        shares = [text.weight for text in data.texts]
        self._context_length = config.model.context_length
        self._shares = list(zip((folder for folder, _ in config.texts), parts, shares, strict=True))

    @property
    def n_windows(self) -> float:
        """Number of windows until a text has been read once: the one that is read most often."""
        return min(len(part) / share for _, part, share in self._shares)

    @property
    def most_read(self) -> Path:
        """The data folder of that text."""
        return min(self._shares, key=lambda each: len(each[1]) / each[2])[0]

    def passes(self, n_windows: int) -> dict[Path, float]:
        """Return how often each text is read, by its data folder."""
        return {folder: n_windows * share / len(part) for folder, part, share in self._shares}

    def n_targets(self, n_windows: int) -> int:
        """Count the targets of this many windows; padding and masked targets are none."""
        per_window = sum(
            share * count_predictions(part) / len(part) for _, part, share in self._shares
        )
        return round(n_windows * per_window)

    @property
    def cut(self) -> str:
        """Say how many documents are cut into pieces. Empty: none."""
        T, n_cut, n_documents = self._context_length, 0, 0
        for _, part, _ in self._shares:
            if part.rows is not None:
                ends = np.append(part.tokens.document_starts, part.n_tokens)
                n_cut += int((np.diff(ends) > T + 1).sum())
                n_documents += len(ends) - 1
        if not n_cut:
            return ""
        return (
            f"{n_cut:,} of {n_documents:,} documents are longer than {T} tokens and are cut into "
            "pieces."
        )
