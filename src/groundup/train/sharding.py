"""Shards of tensors: the rows that this process holds of a weight under FSDP.

Plain tensors pass through unchanged.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def is_shared(tensor: Tensor) -> bool:
    """Whether other processes hold other shards of the tensor."""
    return hasattr(tensor, "to_local")


def own_part(tensor: Tensor) -> Tensor:
    """The shard of this process. Changing it changes the tensor.

    >>> own_part(torch.ones(2)).shape
    torch.Size([2])
    """
    part: Tensor = _shared(tensor).to_local() if is_shared(tensor) else tensor
    return part.detach()


def all_rows(
    parts: Float[Tensor, "N part C"], of: Tensor
) -> tuple[Float[Tensor, "N rows C"], slice]:
    """Gather full matrices from all shards, and return which rows belong to this process.

    Args:
        parts: This process's rows of N matrices.
        of: A weight that is sharded in the same way.
    """
    if not is_shared(of):
        return parts, slice(None)
    import torch.distributed as dist

    mesh = _shared(of).device_mesh
    N, _, C = parts.shape
    n_rows, size = of.shape[0], mesh.size()
    each = -(-n_rows // size)  # the last shards may be shorter, or empty
    padded = F.pad(parts, (0, 0, 0, each - parts.shape[1])).contiguous()
    gathered = parts.new_empty(size, N, each, C)
    dist.all_gather(list(gathered), padded, group=mesh.get_group())
    whole = gathered.transpose(0, 1).reshape(N, size * each, C)
    first = mesh.get_local_rank() * each
    return whole[:, :n_rows], slice(min(first, n_rows), min(first + each, n_rows))


def as_part_of(tensor: Tensor, of: Tensor, mesh: "DeviceMesh | None" = None) -> Tensor:
    """Wrap a plain tensor as this process's shard of a tensor that is sharded like `of`.

    Args:
        tensor: The shard.
        of: The weight it belongs to. If it is not sharded, the tensor is returned unchanged.
        mesh: The processes, where they differ from those of `of` (a copy in main memory).
    """
    if not is_shared(of):
        return tensor
    from torch.distributed.tensor import DTensor

    shared = _shared(of)
    return DTensor.from_local(
        tensor,
        mesh or shared.device_mesh,
        shared.placements,
        run_check=False,
        shape=of.shape,
        stride=of.stride(),
    )


def copied_to_cpu(tensor: Tensor, mesh: "DeviceMesh | None") -> Tensor:
    """A copy in main memory, sharded like the tensor itself."""
    return as_part_of(own_part(tensor).to("cpu", copy=True), tensor, mesh)


def first_number(tensor: Tensor) -> Float[Tensor, ""]:
    """The first number of this process's shard; 0 if the shard is empty."""
    part = own_part(tensor)
    return part.flatten()[0] if part.numel() else part.new_zeros(())


def gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    """This process's shards of the gradients that are not None."""
    return [own_part(p.grad) for p in parameters if p.grad is not None]


def _shared(tensor: Tensor) -> Any:
    return tensor


def save_parts(files: Mapping[str, Mapping[str, Tensor]], folder: Path | None, group: Any) -> None:
    """Write the shards of every process; the first one joins them into one file per name.

    Args:
        files: Names of safetensors files, and the tensors of each.
        folder: Where the first process writes them. None in the others.
        group: A gloo process group.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    box = [folder]
    torch.distributed.broadcast_object_list(box, src=0, group=group)
    places = {name: n for n, each in enumerate(files.values(), 1) for name in each}
    writer = HuggingFaceStorageWriter(
        str(box[0]), places, save_distributed=True, enable_consolidation=True
    )
    tensors = {name: tensor for each in files.values() for name, tensor in each.items()}
    try:
        save(tensors, storage_writer=writer, process_group=group)
    except CheckpointException as error:  # raised in all processes when one disk is full
        reasons = {f"process {rank}: {why[0]}" for rank, why in error.failures.items()}
        raise OSError("; ".join(sorted(reasons))) from error
    if folder is not None:
        for number, name in enumerate(files, 1):
            part = folder / f"model-{number:05d}-of-{len(files):05d}.safetensors"
            part.rename(folder / name)
        (folder / "model.safetensors.index.json").unlink()
        shutil.rmtree(folder / "sharded")


def load_parts(checkpoint: Path, tensors: dict[str, Tensor]) -> None:
    """Read this process's shards of each tensor, whatever number of processes wrote them."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    load(tensors, storage_reader=HuggingFaceStorageReader(str(checkpoint)))
