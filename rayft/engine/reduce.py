"""How the gradients of a step's virtual shards become one.

`LocalReduce` and `MeanReduce` add in whatever order is fastest; `ExactReduce` adds by a binary
tree whose shape depends on the number of virtual shards alone, so that no bit depends on how many
workers share them.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from typing import Any, Protocol, assert_never, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rayft.engine.ports import Ranks
from rayft.plan.run_plan import RunPlan

# torch 2.14 gave `broadcast_buffers` another name and warns of the old one.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


class Reduce(Protocol):
    """The port through which the loop sums gradients."""

    module: nn.Module
    """What to call forward on."""
    loss_scale: float
    """Factor on the loss, where the reduction divides by the number of workers."""

    def shard(self, *, last: bool) -> AbstractContextManager[None]:
        """Return the context for forward and backward of one shard."""
        ...

    def finish(self) -> None:
        """Leave the sum over all shards of all workers in every `.grad`."""
        ...


class LocalReduce:
    """One worker: autograd accumulates."""

    loss_scale = 1.0

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def shard(self, *, last: bool) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        del last
        return nullcontext()

    def finish(self) -> None:
        """Autograd has summed already."""


class MeanReduce:
    """Several workers: DDP's all-reduce, which overlaps with backward.

    Where each worker has batch statistics of its own, all take those of the first after a step, and
    not before the next as DDP does it: what is evaluated, averaged and saved in between is then the
    same for all.
    """

    def __init__(self, module: nn.Module, *, world_size: int, sync_buffers: bool) -> None:
        # DDP regroups its buckets after the first step it sees, so a resumed run would sum in
        # another order than one that was never interrupted (seen with 4 gloo workers). It does
        # not regroup when it looks for unused parameters.
        options: dict[str, Any] = {_SYNC_BUFFERS: False}
        self._ddp = DistributedDataParallel(module, find_unused_parameters=True, **options)
        self.module: nn.Module = self._ddp
        self.loss_scale = float(world_size)
        self._statistics = [
            buffer for buffer in module.buffers() if sync_buffers and buffer.is_floating_point()
        ]

    @contextmanager
    def shard(self, *, last: bool) -> Iterator[None]:
        """Return the context that keeps all but a worker's last shard from communicating."""
        with nullcontext() if last else self._ddp.no_sync():
            yield

    def finish(self) -> None:
        """Take over the first worker's statistics; DDP has summed already."""
        if not self._statistics:
            return
        together = torch.cat([each.flatten() for each in self._statistics])
        dist.broadcast(together, src=0)
        parts = torch.split(together, [each.numel() for each in self._statistics])
        for each, part in zip(self._statistics, parts, strict=True):
            each.copy_(part.view_as(each))


class ExactReduce:
    """Any number of workers, one result: a fixed tree over the virtual shards."""

    loss_scale = 1.0

    def __init__(self, module: nn.Module, *, ranks: Ranks) -> None:
        self.module = module
        self._params = [param for param in module.parameters() if param.requires_grad]
        self._ranks = ranks
        self._tree = TreeSum()

    @contextmanager
    def shard(self, *, last: bool) -> Iterator[None]:
        """Collect the gradient of one shard after its backward."""
        del last
        yield
        parts = [
            (param.new_zeros(param.shape) if param.grad is None else param.grad).flatten()
            for param in self._params
        ]
        self._tree.add(torch.cat(parts))
        for param in self._params:
            param.grad = None

    def finish(self) -> None:
        """Sum the workers' subtrees by the same tree."""
        total = self._tree.total()
        if self._ranks.world_size > 1:
            parts = [torch.empty_like(total) for _ in range(self._ranks.world_size)]
            dist.all_gather(parts, total)
            for part in parts:
                self._tree.add(part)
            total = self._tree.total()
        offset = 0
        for param in self._params:
            size = param.numel()
            param.grad = torch.empty_like(param).copy_(total[offset : offset + size].view_as(param))
            offset += size


class TreeSum:
    """Sum of a power of two of vectors by a balanced binary tree, holding log2 of them."""

    def __init__(self) -> None:
        self._partial: list[Tensor | None] = []

    def add(self, value: Tensor) -> None:
        """Add the next leaf, merging subtrees of equal height as a binary counter carries."""
        for level, left in enumerate(self._partial):
            if left is None:
                self._partial[level] = value
                return
            value = left + value
            self._partial[level] = None
        self._partial.append(value)

    def total(self) -> Tensor:
        """Return the sum and start anew.

        Raises:
            RuntimeError: the number of leaves is no power of two.
        """
        open_subtrees = [value for value in self._partial if value is not None]
        if len(open_subtrees) != 1:
            raise RuntimeError("a fixed tree needs a power of two of leaves")
        self._partial = []
        return open_subtrees[0]


def make_reduce(plan: RunPlan, module: nn.Module, ranks: Ranks) -> Reduce:
    """Build the reduction of a phase; again at each phase, because DDP registers what trains.

    DDP lists the parameters that require gradients when it wraps: one that thaws later would go
    out of step between workers, without an error.
    """
    if plan.spec.torch_compile:
        # Compiled anew: other parameters train, so another graph runs backward.
        module = cast(nn.Module, torch.compile(module))
    reduction = plan.spec.reduction
    match reduction.kind:
        case "exact":
            return ExactReduce(module, ranks=ranks)
        case "mean" if ranks.world_size == 1:
            return LocalReduce(module)
        case "mean":
            return MeanReduce(
                module,
                world_size=ranks.world_size,
                sync_buffers=plan.spec.batch_norm == "local",
            )
        case _:
            assert_never(reduction.kind)
