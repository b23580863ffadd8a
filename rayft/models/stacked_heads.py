"""The heads of several models as one batched head, for models that share their features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayft.models.heads import ScoreHead


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadGroup:
    """Heads that follow each other in a stack, and see and drop the same inputs."""

    features: Tensor
    """[n, D]."""
    size: int
    """Number of heads."""
    dropout: float = 0.0
    """Share of the inputs of every linear layer that is dropped; 0 in evaluation."""
    stream: int = 0
    """Seed of what is dropped."""


@final
class StackedHeads:
    """K heads of the same layers, their parameters stacked.

    Args:
        heads: of one structure; they may differ in dropout.
    """

    params: dict[str, Tensor]
    """[K, ...] by the name that the parameter has in a head; leaves that require gradients."""

    def __init__(self, heads: Sequence[ScoreHead]) -> None:
        named = [dict(head.named_parameters()) for head in heads]
        self.params = {
            name: torch.stack([params[name].detach() for params in named]).requires_grad_()
            for name in named[0]
        }
        first = heads[0]
        self._layers = [*(f"hidden.{place}" for place in range(len(first.hidden))), "output"]
        self._norms: list[nn.LayerNorm] = list(first.norms)  # type: ignore[arg-type]
        self._activation = first.activation

    def __len__(self) -> int:
        return len(self.params["output.bias"])

    def lend(self, heads: Sequence[ScoreHead]) -> None:
        """Make the parameters of the heads that were stacked views of the stacks.

        From then on a head holds whatever its row of the stack does, and is saved as ever.
        """
        for row, head in enumerate(heads):
            for name, param in head.named_parameters():
                param.data = self.params[name].detach()[row]

    def __call__(self, groups: Sequence[HeadGroup]) -> Tensor:
        """Return scores [K, n, C].

        The global generator is moved where something is dropped: each group draws what each of its
        heads would draw alone, from the group's seed.

        Args:
            groups: all heads, in the order of the stack.
        """
        sizes = [group.size for group in groups]
        # Cut once for all groups: the gradients of cuts made one by one would each fill a stack.
        parts = {name: torch.split(value, sizes) for name, value in self.params.items()}
        made = [
            self._scores(group, {name: part[place] for name, part in parts.items()})
            for place, group in enumerate(groups)
        ]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _scores(self, group: HeadGroup, params: dict[str, Tensor]) -> Tensor:
        if group.dropout:
            torch.manual_seed(group.stream)
        values = group.features
        for place, layer in enumerate(self._layers):
            if place:
                values = self._activation(values)
            if self._norms:
                values = self._normalised(values, place, params)
            values = _dropped(values, group.dropout)
            values = _linear(values, params[f"{layer}.weight"], params[f"{layer}.bias"])
        return values

    def _normalised(self, values: Tensor, place: int, params: dict[str, Tensor]) -> Tensor:
        """Return [k, n, D]: head by head, because other arithmetic rounds elsewhere in bf16."""
        norm = self._norms[place]
        weights, biases = params[f"norms.{place}.weight"], params[f"norms.{place}.bias"]
        each = values.expand(len(weights), *values.shape[-2:])
        return torch.stack(
            [
                F.layer_norm(own, norm.normalized_shape, weight, bias, norm.eps)
                for own, weight, bias in zip(each, weights, biases, strict=True)
            ]
        )


def _dropped(values: Tensor, share: float) -> Tensor:
    """Drop the same places of each head's values [k, n, D], or of those [n, D] of all of them."""
    if not share:
        return values
    if values.dim() == 2:
        return F.dropout(values, share)
    return values * F.dropout(torch.ones_like(values[0]), share)


def _linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return [k, n, O] of values [k, n, I], or [n, I] of all heads, by weights [k, O, I]."""
    if values.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(1), values, weight.transpose(1, 2))
    # One product for all heads: each alone is too narrow to keep the processor busy.
    heads, width, _ = weight.shape
    made = F.linear(values, weight.flatten(0, 1), bias.flatten())
    return made.view(len(values), heads, width).transpose(0, 1)
