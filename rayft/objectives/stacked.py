"""The losses of several models on the same rows, in one pass."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from rayft.objectives.objective import CrossEntropyTerm


@final
class StackedCrossEntropy:
    """Cross entropy of K members, each with label smoothing of its own.

    Args:
        terms: of the members; they have the weights of classes in common.
    """

    def __init__(self, terms: Sequence[CrossEntropyTerm]) -> None:
        self._smoothing = [term.label_smoothing for term in terms]
        self._class_weights = terms[0].class_weights

    def __call__(self, scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return each member's weighted sum [K] of the rows' losses in nats.

        Args:
            scores: [K, n, C] unnormalised.
            labels: [K, n] classes.
            weights: [n] weight of each row; 0 leaves a row out.
        """
        logs = scores.float().log_softmax(dim=2)
        losses = -logs.gather(2, labels.unsqueeze(2)).squeeze(2)
        if self._class_weights is not None:
            losses = losses * self._class_weights[labels]
        if any(self._smoothing):
            share = torch.tensor(self._smoothing, device=logs.device).unsqueeze(1)
            losses = (1 - share) * losses + share * self._of_all_classes(logs)
        # A row of weight 0 must not matter even where its loss is not finite.
        return torch.where(weights > 0, losses * weights, 0.0).sum(dim=1)

    def _of_all_classes(self, logs: Tensor) -> Tensor:
        """Return the mean loss [K, n] over all classes, as torch weighs it."""
        weighed = logs if self._class_weights is None else logs * self._class_weights
        return -weighed.mean(dim=2)
