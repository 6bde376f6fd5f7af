"""Several processes that train one model: rank and size, sums over all processes, DDP and FSDP.

torchrun starts the processes and sets the rank of each. Every process reads its part of each batch
(`data/loader.py`), and gradients are averaged over all. Every decision is based on sums that are
equal in all processes, so they stay synchronized. In a single process nothing here has an effect.
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
Loss = Callable[..., Tensor]
T = TypeVar("T")


def n_processes() -> int:
    """Number of processes that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class World:
    """The processes of a run.

    >>> alone = World()
    >>> alone.is_first, alone.sum(1.0, 2.0), alone.any(False), alone.from_first(lambda: 3)
    (True, [1.0, 2.0], False, 3)
    """

    rank = 0
    """The number of this process, from 0."""
    size = 1
    """Number of processes."""
    seed = 0
    """The seed of the run. With several processes, the random state of a step follows from it."""
    _mesh: "DeviceMesh | None" = None
    cpu_mesh: "DeviceMesh | None" = None
    """The processes, for tensors in main memory. None: a single process."""

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """Join the process group of torchrun. Without torchrun there is a single process."""
        world = cls()
        if n_processes() == 1:
            return world
        import torch.distributed as dist
        from torch._C._distributed_c10d import PrefixStore
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.rendezvous import rendezvous

        if not dist.is_initialized():
            # gloo as well as NCCL: sums and checkpoints use the CPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            # After a restart, torchrun's store still has the addresses of the old processes.
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
        """Leave the process group."""
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    def sum(self, *values: float | int) -> list[float]:
        """Add up each value over all processes. All get the same sums."""
        if self.size == 1:
            return [float(value) for value in values]
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def reseed(self, step: int) -> None:
        """With several processes, set the random state of a step, different in each process.

        So it is not stored, and a run can be resumed with another number of processes.
        """
        if self.size > 1:
            torch.manual_seed(((self.seed * 1_000_003 + step) * 65_537 + self.rank) % 2**63)

    def of_first(self, value: float) -> float:
        """The value of the first process, in all processes."""
        return value if self.size == 1 else self.sum(value if self.is_first else 0.0)[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in at least one process."""
        return self.sum(float(flag))[0] > 0

    def from_first(self, make: Callable[[], T]) -> T:
        """Call a function in the first process only, and return its result in all."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        box: list[Any] = [make() if self.is_first else None]
        dist.broadcast_object_list(box)
        made: T = box[0]
        return made

    def shard(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Shard every weight over the processes (FSDP). Layers gather their weights as they run.

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
        for part in (*_blocks(model), model):
            fully_shard(part, mesh=self._mesh, mp_policy=policy)
        register_fsdp_forward_method(model, "loss")

    @contextmanager
    def usable(self, model: nn.Module) -> Iterator[None]:
        """Gather the weights, so that all processes can call the model other than for its loss."""
        if not any(is_shared(weight) for weight in model.parameters()):
            yield
            return
        # Each of them gathers its own weights only.
        parts: list[Any] = [*_blocks(model), model]
        for part in parts:
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()

    def average_gradients(self, loss: nn.Module) -> Loss:
        """Return a loss whose backward pass averages the gradients over all processes.

        A sharded model averages them already. Otherwise every process has a full copy (DDP).

        Source: "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
            section 3.
        """
        if self.size == 1 or any(is_shared(weight) for weight in loss.parameters()):
            return loss
        from torch.nn.parallel import DistributedDataParallel

        with warnings.catch_warnings():  # the option is renamed in torch 2.13
            warnings.simplefilter("ignore", FutureWarning)
            # The gradients are views of what is sent; otherwise they would be in memory twice.
            return DistributedDataParallel(
                loss, broadcast_buffers=False, gradient_as_bucket_view=True
            )


def _blocks(model: nn.Module) -> nn.ModuleList:
    blocks = model.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    return blocks


ALONE = World()
