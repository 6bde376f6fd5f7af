"""The options of `create_dataloader_v1` that the book leaves to torch, and process groups."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils.data import DistributedSampler, SequentialSampler, SubsetRandomSampler

from groundup.base.errors import UserError
from groundup.data.book import create_dataloader_v1


class Letters:
    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


TEXT = "".join(map(chr, range(100, 181)))  # 80 windows of one token


def loader(**options: Any) -> Any:
    return create_dataloader_v1(TEXT, 10, 1, 1, tokenizer=Letters(), **options)


def first_ids(batches: Any) -> list[int]:
    return [int(i) for inputs, _ in batches for i in inputs[:, 0]]


def test_a_sampler_decides_the_order() -> None:
    order = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    assert first_ids(loader(sampler=order)) == [100 + i for i in order]
    assert first_ids(loader(sampler=order, shuffle=False)) == [100 + i for i in order]
    assert first_ids(loader(sampler=SequentialSampler)) == list(range(100, 180))
    picked = SubsetRandomSampler([1, 2, 3])
    assert sorted(first_ids(loader(sampler=picked, drop_last=False))) == [101, 102, 103]


def test_a_sampler_of_less_than_a_batch_warns(caplog) -> None:
    assert list(loader(sampler=[1, 2])) == []
    assert "2 windows, fewer than one batch of 10" in caplog.text


def test_a_sampler_and_shuffle_are_exclusive() -> None:
    with pytest.raises(UserError, match=r"sampler and shuffle=True.*shuffle=False"):
        loader(sampler=[1], shuffle=True)


def test_a_generator_draws_the_order() -> None:
    def ids(seed: int) -> list[int]:
        return first_ids(loader(generator=torch.Generator().manual_seed(seed)))

    torch.manual_seed(1)
    once = ids(5)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert ids(5) == once
    assert torch.equal(torch.get_rng_state(), before)
    assert ids(6) != once
    assert sorted(once) == list(range(100, 180))


def test_the_other_options_reach_torch() -> None:
    made = loader(
        num_workers=1, persistent_workers=True, worker_init_fn=print, collate_fn=len,
        pin_memory=True,
    )  # fmt: skip
    assert made.persistent_workers
    assert made.pin_memory
    assert made.worker_init_fn is print
    assert list(loader(collate_fn=len)) == [10] * 8


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None: 1)


@pytest.mark.usefixtures("two_processes")
def test_in_a_process_group_it_warns_that_windows_are_shared(caplog) -> None:
    assert len(first_ids(loader())) == 80
    assert "2 processes train together, and each of them reads all 80 windows" in caplog.text
    assert "sampler=torch.utils.data.DistributedSampler" in caplog.text
    caplog.clear()
    mine = loader(sampler=DistributedSampler)
    assert len(first_ids(mine)) == 40
    assert caplog.text == ""
    assert mine.sampler.rank == 1


def test_one_process_gets_no_warning(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 1)
    loader()
    assert caplog.text == ""


def test_the_ranks_share_the_windows() -> None:
    parts = [loader(sampler=lambda data, r=rank: DistributedSampler(data, 2, r)) for rank in (0, 1)]
    epochs = []
    for epoch in (0, 1):
        for part in parts:
            part.sampler.set_epoch(epoch)
        ids = [first_ids(part) for part in parts]
        assert sorted(ids[0] + ids[1]) == list(range(100, 180))
        epochs.append(ids)
    assert epochs[0] != epochs[1]


WORKER = """
import sys, torch
from torch.utils.data import DistributedSampler
from groundup import create_dataloader_v1
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method="file://" + store, rank=rank, world_size=2)
class Letters:
    def encode(self, text): return list(map(ord, text))
loader = create_dataloader_v1("abcdefghi", 2, 1, 1, tokenizer=Letters(), sampler=DistributedSampler)
print(sorted(int(i) for x, _ in loader for i in x))
create_dataloader_v1("abcdefghi", 2, 1, 1, tokenizer=Letters())
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_of_a_real_group(tmp_path) -> None:
    command = [sys.executable, "-c", WORKER]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    done = [process.communicate(timeout=200) for process in started]
    ids = [int(i) for out, _ in done for i in out.strip()[1:-1].split(",")]
    assert sorted(ids) == list(map(ord, "abcdefgh"))
    assert all("each of them reads all 8 windows" in err for _, err in done), done
