"""Several processes as one: our place among them, sums over all of them, one model between them.

torchrun starts the processes and tells each its place. Every process takes its stretch of each
batch (`data/loader.py`); gradients are averaged over all; every decision rests on sums that all
processes see alike, so they stay in step. Alone, nothing here does anything.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from groundup.train.sharding import is_shared

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


Kind = Literal["ddp", "fsdp"]
Loss = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


def n_processes() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class World:
    """The processes of a run.

    >>> alone = World()
    >>> alone.is_first, alone.sum(1.0, 2.0), alone.any(False), alone.from_first(lambda: 3)
    (True, [1.0, 2.0], False, 3)
    """

    rank = 0
    """Our number, from 0."""
    size = 1
    """How many there are."""
    seed = 0
    """The run's; chance in a step follows from it, the step and our number."""
    _mesh: "DeviceMesh | None" = None
    cpu_mesh: "DeviceMesh | None" = None
    """The processes in their order, for tensors in main memory; None: alone."""

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """Meet the other processes that torchrun has started; without torchrun there are none."""
        world = cls()
        if n_processes() == 1:
            return world
        import torch.distributed as dist
        from torch._C._distributed_c10d import PrefixStore
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.rendezvous import rendezvous

        if not dist.is_initialized():
            # gloo too where NCCL carries the tensors: sums and checkpoints go over the CPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            # torchrun gives a restarted run the same store, with the addresses of the dead in it.
            store, rank, size = next(rendezvous("env://"))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = PrefixStore(f"attempt-{attempt}", store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        world.rank, world.size = dist.get_rank(), dist.get_world_size()
        world.cpu_mesh = init_device_mesh("cpu", (world.size,))
        world._mesh = world.cpu_mesh
        if device.type == "cuda":
            world._mesh = init_device_mesh("cuda", (world.size,))
        return world

    def leave(self) -> None:
        """Part from the other processes."""
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether we are the one that writes, and talks to the person."""
        return self.rank == 0

    def sum(self, *values: float | int) -> list[float]:
        """Add up each value over all processes; all get the same sums."""
        if self.size == 1:
            return [float(value) for value in values]
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def reseed(self, step: int) -> None:
        """Among several, begin a step with a chance of its own for each process.

        So it need not be stored, and a run may go on with another number of processes.
        """
        if self.size > 1:
            torch.manual_seed((self.seed * 1_000_003 + step) * 65_537 + self.rank)

    def of_first(self, value: float) -> float:
        """The first process's value, in all."""
        return value if self.size == 1 else self.sum(value if self.is_first else 0.0)[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so in one process at least."""
        return self.sum(float(flag))[0] > 0

    def from_first(self, make: Callable[[], T]) -> T:
        """Have the first process make something; all get it."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        box: list[Any] = [make() if self.is_first else None]
        dist.broadcast_object_list(box)
        made: T = box[0]
        return made

    def shard(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Leave each process a part of every weight; what a layer needs is gathered as it runs.

        Source: "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", section 3.
        """
        from torch.distributed.fsdp import (
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        assert self._mesh is not None
        low = dtype != torch.float32
        policy = MixedPrecisionPolicy(dtype, torch.float32) if low else MixedPrecisionPolicy()
        blocks = model.get_submodule("blocks")
        assert isinstance(blocks, nn.ModuleList)
        for part in (*blocks, model):
            fully_shard(part, mesh=self._mesh, mp_policy=policy)
        register_fsdp_forward_method(model, "loss")

    @contextmanager
    def usable(self, model: nn.Module) -> Iterator[None]:
        """Let the model be used other than by its loss, by all processes alike."""
        if not any(is_shared(weight) for weight in model.parameters()):
            yield
            return
        shared: Any = model
        shared.unshard()  # what lies outside the blocks; these gather their weights themselves
        try:
            yield
        finally:
            shared.reshard()

    def average_gradients(self, loss: nn.Module) -> Loss:
        """Give a loss whose backward pass averages the gradients over all processes.

        A model in parts does so by itself; of a whole one every process holds the same copy.

        Source: "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
            section 3.
        """
        if self.size == 1 or any(is_shared(weight) for weight in loss.parameters()):
            return loss
        from torch.nn.parallel import DistributedDataParallel

        with warnings.catch_warnings():  # the option has another name from torch 2.13 on
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(loss, broadcast_buffers=False)


ALONE = World()
