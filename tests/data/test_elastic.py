"""Ranks, micro-batches, reading ahead: nothing of it changes what a batch contains."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killed import start, wait

from groundup.base.errors import UserError
from groundup.data.book import create_dataloader_v1
from groundup.data.loader import Loader
from groundup.data.mixture import Mixture
from groundup.data.protocol import ArrayTokens
from groundup.data.windows import Windows
from groundup.model.config import GPTConfig

N_TOKENS = 97


def windows(kind: str) -> Windows | Mixture:
    tokens = ArrayTokens(np.arange(N_TOKENS), [0, 5, 20, 21, 60])
    match kind:
        case "mixture":
            return Mixture([Windows(tokens, 4), Windows(np.arange(100, 160), 4, 2)], [2, 1])
        case "exact":
            return Windows(tokens, 4, 3, "exact")
        case "isolated" | "packed" | "padded":
            return Windows(tokens, 4, documents=kind)  # type: ignore[arg-type]
    return Windows(tokens, 4, 2)


KINDS = ["book", "exact", "isolated", "packed", "padded", "mixture"]


@settings(max_examples=30)
@given(
    kind=st.sampled_from(KINDS),
    schedule=st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 6]), st.integers(0, 3), st.integers(1, 4)),
        min_size=1,
        max_size=3,
    ),
    order=st.sampled_from(["permuted", "sequential", "torch"]),
    seed=st.integers(0, 5),
)
def test_any_ranks_any_reading_ahead_after_any_batch(
    kind: str, schedule: list[tuple[int, int, int]], order: str, seed: int
) -> None:
    """A run that is stopped and goes on with other ranks has the batches of a run on one."""
    alone = Loader(windows(kind), 6, seed=seed, order=order)  # type: ignore[arg-type]
    state = alone.state_dict()
    for world_size, n_ahead, n_batches in schedule:
        options = {"seed": seed, "order": order, "world_size": world_size, "n_ahead": n_ahead}
        ranks = [
            Loader(windows(kind), 6, rank=rank, **options)  # type: ignore[arg-type]
            for rank in range(world_size)
        ]
        for rank in ranks:
            rank.load_state_dict(state)
        for _ in range(n_batches):
            whole, parts = next(alone), [next(rank) for rank in ranks]
            for side in (0, 1):
                assert torch.equal(torch.cat([part[side] for part in parts]), whole[side])
            if whole.positions is not None:
                joined = torch.cat([part.positions for part in parts])  # type: ignore[misc]
                assert torch.equal(joined, whole.positions)
        states = [rank.state_dict() for rank in ranks]
        assert all(other == states[0] == alone.state_dict() for other in states)
        state = states[-1]
        for rank in ranks:
            rank.close()


def test_a_jump_leaves_nothing_of_what_was_read_ahead() -> None:
    loader = Loader(windows("book"), 5, n_ahead=3)
    next(loader)
    for k in (7, 2, 2, 10**9):
        loader.at(k)
        assert torch.equal(next(loader)[0], Loader(windows("book"), 5).batch(k)[0])
    loader.close()


def test_rank_and_world_size_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(windows("book"), 6, rank=1, world_size=3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    whole = Loader(windows("book"), 6)
    assert (whole.rank, whole.world_size) == (0, 1), "the environment does not count here"
    assert torch.equal(next(loader)[0], next(whole)[0][2:4])
    with pytest.raises(UserError, match=r"batch of 8 windows.* 3 processes.*batch_size=9$"):
        Loader(windows("book"), 8, rank=1, world_size=3)
    with pytest.raises(UserError, match="rank is 3 of 3 processes"):
        Loader(windows("book"), 9, rank=3, world_size=3)


def test_the_run_s_processes_share_each_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare_training` gives the loader the rank and the number of processes of the run."""
    from groundup.train import build
    from groundup.train.config import PretrainConfig
    from groundup.train.data import open_data
    from groundup.train.distributed import World

    world = World()
    world.rank, world.size = 1, 2
    monkeypatch.setattr(World, "join", lambda device: world)
    monkeypatch.setattr(World, "average_gradients", lambda self, loss: loss)
    shape = GPTConfig(context_length=8, d_model=16, n_layers=1, n_heads=1)
    config = PretrainConfig(data=data, model=shape, batch_size=4)
    loader = build.prepare_training(config, open_data(data)).loader
    assert (loader.rank, loader.world_size) == (1, 2)


def read_stretch(rank: int, world_size: int, state_file: Path, out: str) -> None:
    """Write the rows of three batches, and the state after them."""
    windows = Windows(np.arange(500), 6, 2)
    loader = Loader(windows, 8, seed=3, rank=rank, world_size=world_size, n_ahead=2)
    if state_file.exists():
        loader.load_state_dict(json.loads(state_file.read_text()))
    rows = [next(loader)[0].tolist() for _ in range(3)]
    Path(f"{out}-{rank}").write_text(json.dumps([rows, loader.state_dict()]))
    loader.close()


def test_a_state_saved_by_4_processes_goes_on_in_2_and_alone(tmp_path: Path) -> None:
    """Real processes, each with its own threads; torchrun: tests/pretraining/test_parallel.py."""
    state = tmp_path / "state.json"
    alone = Loader(Windows(np.arange(500), 6, 2), 8, seed=3)
    for world_size in (4, 2, 1):
        out = str(tmp_path / f"on-{world_size}")
        processes = [
            start(partial(read_stretch, rank, world_size, state, out)) for rank in range(world_size)
        ]
        assert [wait(process, 60) for process in processes] == [0] * world_size
        told = [json.loads(Path(f"{out}-{rank}").read_text()) for rank in range(world_size)]
        for i in range(3):
            joined = [row for rows, _ in told for row in rows[i]]
            assert joined == next(alone)[0].tolist()
        state.write_text(json.dumps(told[-1][1]))


def test_torch_s_order_is_the_book_s_loader_s() -> None:
    text = "".join(chr(97 + i % 26) for i in range(300))

    class Letters:
        def encode(self, text: str, *, allowed_special: set[str]) -> list[int]:
            return [ord(letter) for letter in text]

    torch.manual_seed(123)
    book = create_dataloader_v1(text, 4, 6, 3, tokenizer=Letters())  # type: ignore[arg-type]
    n_windows = len(book.dataset)  # type: ignore[arg-type]
    ours = Windows(np.array([ord(letter) for letter in text]), 6, 3)
    assert len(ours) == n_windows
    for epoch in range(3):
        loader = Loader(ours, n_windows, seed=123, order="torch").at(epoch)
        inputs, targets = next(loader)
        for b, (x, y) in enumerate(book):
            assert torch.equal(inputs[4 * b : 4 * b + 4], x)
            assert torch.equal(targets[4 * b : 4 * b + 4], y)


def test_the_order_keeps_a_block_and_no_more() -> None:
    import tracemalloc

    class Endless:
        n_tokens = 10**12
        fingerprint = ""
        document_starts = np.zeros(1, dtype=np.int64)

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.arange(start, stop)

        def gather(self, starts: np.ndarray, width: int) -> np.ndarray:
            return starts[:, None] + np.arange(width)

    tracemalloc.start()
    loader = Loader(Windows(Endless(), 4, 1), 64)
    seen = {int(next(loader)[0][0, 0]) for _ in range(50)}
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(seen) == 50
    assert peak_bytes < 8 * 2**20, "some arrays of 65,536 positions"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_batches_come_to_the_gpu_as_they_are(kind: str) -> None:
    here = Loader(windows(kind), 6)
    there = Loader(windows(kind), 6, device="cuda", n_ahead=2)
    for _ in range(20):
        for ours, theirs in zip(next(here), next(there), strict=True):
            assert theirs.device.type == "cuda"
            assert torch.equal(ours, theirs.cpu())
    there.close()
