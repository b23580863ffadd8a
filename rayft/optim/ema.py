"""Exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of the parameters and statistics that have moved, updated once a step.

    Batch norm's running statistics belong to the weights that they were taken of: averaged weights
    need averaged ones, as in torchvision's references and timm.

    The decay rises from 0.1 towards `decay` as (1 + n) / (10 + n) over the n updates made, so
    that a short run is not averaged with its random start (as in TensorFlow's
    `ExponentialMovingAverage` with `num_updates`).
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._num_updates = 0
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights after a step."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        current = self._tracked()
        for name, value in current.items():
            if name not in self._average:
                self._average[name] = value.detach().clone()
        names = list(current)
        torch._foreach_lerp_(
            [self._average[name] for name in names],
            [current[name].detach() for name in names],
            1 - decay,
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in place of the weights while the context is open."""
        tensors = self._tensors()
        kept = {name: tensors[name].detach().clone() for name in self._average}
        self._write(self._average)
        try:
            yield
        finally:
            self._write(kept)

    def state(self) -> dict[str, Tensor]:
        """Return the averages by name, and the number of updates."""
        return {**self._average, "num_updates": torch.tensor(self._num_updates)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved state."""
        self._num_updates = int(state["num_updates"])
        tensors = self._tensors()
        self._average = {
            name: torch.empty_like(tensors[name]).copy_(value)
            for name, value in state.items()
            if name != "num_updates"
        }

    def _tracked(self) -> dict[str, Tensor]:
        """Return what moves now: trained parameters, statistics, what has an average already."""
        tracked: dict[str, Tensor] = {}
        for path, module in self._model.named_modules():
            own = [(n, p, p.requires_grad) for n, p in module.named_parameters(recurse=False)]
            own += [(n, b, _moves(module, b)) for n, b in module.named_buffers(recurse=False)]
            for name, tensor, moves in own:
                full = f"{path}.{name}" if path else name
                if moves or full in self._average:
                    tracked[full] = tensor
        return tracked

    def _tensors(self) -> dict[str, Tensor]:
        """Return all parameters and all statistics: what counts batches has no average."""
        buffers = dict(self._model.named_buffers())
        statistics = {n: value for n, value in buffers.items() if value.is_floating_point()}
        return {**dict(self._model.named_parameters()), **statistics}

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        tensors = self._tensors()
        for name, value in values.items():
            tensors[name].copy_(value)


def _moves(module: nn.Module, buffer: Tensor) -> bool:
    return module.training and buffer.is_floating_point()
