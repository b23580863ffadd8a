"""The loss: a weighted sum of terms, each on one head.

Terms are sums over rows, not means: the loop divides by the true number of rows of the whole
step, so a short shard and an uneven last batch weigh what they should.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayft.spec.model import ClassificationHead, ModelSpec


class CrossEntropyTerm(nn.Module):
    """Cross entropy of one classification head, with label smoothing."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the rows' losses in nats.

        Args:
            scores: [n, C] unnormalised.
            labels: [n] classes.
            weights: [n] weight of each row; 0 leaves a row out.
        """
        losses = F.cross_entropy(
            scores.float(), labels, reduction="none", label_smoothing=self.label_smoothing
        )
        # A row of weight 0 must not matter even where its loss is not finite.
        return torch.where(weights > 0, losses * weights, 0.0).sum()


class Objective(nn.Module):
    """The sum of the terms of all heads."""

    def __init__(self, terms: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)

    def forward(
        self, scores: Mapping[str, Tensor], labels: Mapping[str, Tensor], weights: Tensor
    ) -> Tensor:
        """Return the sum of all terms over the rows, a scalar."""
        parts = [term(scores[name], labels[name], weights) for name, term in self.terms.items()]
        return torch.stack(parts).sum()


def make_objective(spec: ModelSpec) -> Objective:
    """Build the loss that belongs to the heads."""
    return Objective({name: _term(head) for name, head in spec.heads.items()})


def _term(head: ClassificationHead) -> nn.Module:
    return CrossEntropyTerm(head.label_smoothing)
