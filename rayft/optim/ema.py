"""Exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of every parameter that has trained, updated once a step.

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
        tensors = dict(self._model.named_parameters())
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
        tensors = dict(self._model.named_parameters())
        self._average = {
            name: torch.empty_like(tensors[name]).copy_(value)
            for name, value in state.items()
            if name != "num_updates"
        }

    def _tracked(self) -> dict[str, Tensor]:
        """Return what moves now: trained parameters, and what has an average already."""
        return {
            name: tensor
            for name, tensor in dict(self._model.named_parameters()).items()
            if tensor.requires_grad or name in self._average
        }

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        tensors = dict(self._model.named_parameters())
        for name, value in values.items():
            tensors[name].copy_(value)
