"""What a checkpoint says of its run is protected by a checksum, like its tensors."""

import json
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.checkpoint import (
    find_latest,
    save_checkpoint,
    take_snapshot,
)
from groundup.train.checkpoint_state import Progress, verify_checkpoint
from groundup.train.optimizer import Optimizer


def save(folder: Path, step: int) -> Path:
    model = GPT(GPTConfig(vocab_size=17, context_length=8, d_model=16, n_layers=1, n_heads=2))
    progress = Progress(
        step=step, n_targets=8 * step, elapsed_s=1.0, loader={}, tokenizer_fingerprint="ours"
    )
    return save_checkpoint(folder, take_snapshot(model, Optimizer(model), progress))


@pytest.mark.parametrize(("name", "value"), [("step", 3), ("n_targets", 0), ("elapsed_s", 0.5)])
def test_a_changed_state_is_damage(tmp_path: Path, name: str, value: float) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    path = newer / "state.json"
    state = json.loads(path.read_text("utf-8"))
    assert state["progress"][name] != value
    state["progress"][name] = value
    path.write_text(json.dumps(state), "utf-8")
    with pytest.raises(UserError, match="checksum"):
        verify_checkpoint(newer)
    assert find_latest(tmp_path) == older
