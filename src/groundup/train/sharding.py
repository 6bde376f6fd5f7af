"""Parts of tensors: what a process holds of a weight that FSDP has cut along its rows.

A plain tensor is its own part, and nothing here changes it.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def is_shared(tensor: Tensor) -> bool:
    """Whether other processes hold other parts of it."""
    return hasattr(tensor, "to_local")


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of it; changing it changes the tensor.

    >>> own_part(torch.ones(2)).shape
    torch.Size([2])
    """
    part: Tensor = _shared(tensor).to_local() if is_shared(tensor) else tensor
    return part.detach()


def all_rows(
    parts: Float[Tensor, "N part C"], of: Tensor
) -> tuple[Float[Tensor, "N rows C"], slice]:
    """Put matrices together from everyone's parts, and tell which rows are ours.

    Args:
        parts: Our rows of N matrices.
        of: A weight cut in the same way.
    """
    if not is_shared(of):
        return parts, slice(None)
    import torch.distributed as dist

    mesh = _shared(of).device_mesh
    N, _, C = parts.shape
    n_rows, size = of.shape[0], mesh.size()
    each = -(-n_rows // size)  # the last parts may be shorter, or empty
    padded = F.pad(parts, (0, 0, 0, each - parts.shape[1])).contiguous()
    gathered = parts.new_empty(size, N, each, C)
    dist.all_gather(list(gathered), padded, group=mesh.get_group())
    whole = gathered.transpose(0, 1).reshape(N, size * each, C)
    first = mesh.get_local_rank() * each
    return whole[:, :n_rows], slice(min(first, n_rows), min(first + each, n_rows))


def as_part_of(tensor: Tensor, of: Tensor, mesh: "DeviceMesh | None" = None) -> Tensor:
    """Say of a plain tensor that it is our part of one cut like `of`.

    Args:
        tensor: Our part.
        of: The weight it belongs to; plain: the tensor comes back as it is.
        mesh: The processes, where they are not those of `of` (a copy in main memory).
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
    """A copy in main memory, cut like the tensor itself."""
    return as_part_of(own_part(tensor).to("cpu", copy=True), tensor, mesh)


def first_number(tensor: Tensor) -> float:
    """The first number of our part; 0 where we hold none of it."""
    part = own_part(tensor)
    return part.flatten()[0].item() if part.numel() else 0.0


def gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    """Our parts of the gradients that there are."""
    return [own_part(p.grad) for p in parameters if p.grad is not None]


def _shared(tensor: Tensor) -> Any:
    return tensor
