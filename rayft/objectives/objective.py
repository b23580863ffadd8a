"""The loss: a weighted sum of terms, each on one head.

Terms are sums over rows, not means: the loop divides by the true number of rows of the whole
step, so a short shard and an uneven last batch weigh what they should.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayft.objectives.targets import Targets
from rayft.spec.model import ClassificationHead, ModelSpec

ClassWeights = Sequence[float] | None


class CrossEntropyTerm(nn.Module):
    """Cross entropy of one classification head, with label smoothing and weights of classes.

    The loss of a row that was put together from two is the sum of the losses for both labels, each
    times its share (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).
    """

    class_weights: Tensor | None

    def __init__(
        self, label_smoothing: float, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, scores: Tensor, targets: Targets, weights: Tensor) -> Tensor:
        """Return the weighted sum of the rows' losses in nats.

        Args:
            scores: [n, C] unnormalised.
            targets: of the n rows.
            weights: [n] weight of each row; 0 leaves a row out.
        """
        losses = self._losses(scores, targets.labels)
        if targets.partner_labels is not None:
            assert targets.shares is not None
            others = self._losses(scores, targets.partner_labels)
            losses = targets.shares * losses + (1 - targets.shares) * others
        # A row of weight 0 must not count even where its loss is not finite.
        return torch.where(weights > 0, losses * weights, 0.0).sum()

    def _losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            scores.float(),
            labels,
            weight=self.class_weights,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )


class Objective(nn.Module):
    """The sum of the terms of all heads."""

    def __init__(self, terms: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)

    def forward(
        self, scores: Mapping[str, Tensor], targets: Mapping[str, Targets], weights: Tensor
    ) -> Tensor:
        """Return the sum of all terms over the rows, a scalar."""
        parts = [term(scores[name], targets[name], weights) for name, term in self.terms.items()]
        return torch.stack(parts).sum()


def make_objective(spec: ModelSpec, *, class_weights: Mapping[str, ClassWeights]) -> Objective:
    """Build the loss that belongs to the heads.

    Args:
        spec: the `model:` section.
        class_weights: for each head a weight for each class, or None.
    """
    return Objective({name: _term(head, class_weights[name]) for name, head in spec.heads.items()})


def _term(head: ClassificationHead, class_weights: ClassWeights) -> nn.Module:
    return CrossEntropyTerm(head.label_smoothing, class_weights)
