"""Ranks that talk through torch.distributed."""

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


class DistributedRanks:
    """The members of the default process group."""

    def __init__(self, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        # NCCL moves tensors of its device only.
        self._device = device if dist.get_backend() == "nccl" else torch.device("cpu")

    def gather(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the rows of every rank, in the order of ranks; lengths may differ."""
        local = torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
        lengths = self._all_gather(torch.tensor([len(local)], device=self._device))
        longest = max(int(length) for length in lengths)
        padded = local.new_zeros((longest, *local.shape[1:]))
        padded[: len(local)] = local
        parts = self._all_gather(padded)
        whole = torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)])
        return whole.cpu().numpy()

    def broadcast_text(self, text: str) -> str:
        """Return rank 0's text on every rank."""
        raw = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        size = torch.tensor([len(raw)], device=self._device)
        dist.broadcast(size, src=0)
        buffer = torch.zeros(int(size), dtype=torch.uint8, device=self._device)
        if self.rank == 0:
            buffer.copy_(raw)
        dist.broadcast(buffer, src=0)
        return bytes(buffer.cpu().numpy()).decode().strip()

    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)
        return parts
