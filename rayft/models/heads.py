"""Heads: small networks from features to the scores of one label column."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import assert_never, final

import torch
from torch import Tensor, nn

from rayft.spec.model import ClassificationHead


@final
class ScoreHead(nn.Module):
    """Hidden layers and one score for each class.

    Every linear layer's input is dropped out; hidden layers are followed by ReLU.
    """

    def __init__(self, *, widths: tuple[int, ...], num_classes: int, dropout: float) -> None:
        """Build the layers.

        Args:
            widths: feature width D, then the width of every hidden layer.
            num_classes: C, the number of scores.
            dropout: share of every linear layer's inputs that is dropped in training, [0, 1).
        """
        super().__init__()
        pairs = pairwise(widths)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairs)
        self.output = nn.Linear(widths[-1], num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores [B, C] of `features` [B, D]."""
        for layer in self.hidden:
            features = torch.relu(layer(self.dropout(features)))
        scores: Tensor = self.output(self.dropout(features))
        return scores


def make_head(spec: ClassificationHead, *, feature_dim: int, num_classes: int) -> ScoreHead:
    """Build the head that `spec` describes, with torch's own initial weights."""
    match spec:
        case ClassificationHead():
            widths = (feature_dim, *spec.hidden)
            return ScoreHead(widths=widths, num_classes=num_classes, dropout=spec.dropout)
        case _:
            assert_never(spec)


def copy_rows(
    head: nn.Module,
    state: Mapping[str, Tensor],
    *,
    known: Sequence[str],
    classes: Sequence[str],
) -> int | None:
    """Copy a trained head into `head`, the last layer row by row by class name, in place.

    Args:
        head: from `make_head`.
        state: tensors of a trained head by name.
        known: class of each row of the trained head's last layer.
        classes: class of each row of `head`'s last layer.

    Returns:
        The number of classes copied; None where the other layers differ in number or shape, and
        nothing was copied.
    """
    target = head.state_dict()
    if not _same_but_for_rows(target, state):
        return None
    row_of = {name: row for row, name in enumerate(known)}
    shared = [(row, row_of[name]) for row, name in enumerate(classes) if name in row_of]
    for name, tensor in target.items():
        if not name.startswith("output."):
            tensor.copy_(state[name])
            continue
        for new, old in shared:
            tensor[new].copy_(state[name][old])
    return len(shared)


def _same_but_for_rows(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Return whether two heads agree in names and shapes, the number of scores left aside."""
    return target.keys() == state.keys() and all(
        tensor.shape[name.startswith("output.") :]
        == state[name].shape[name.startswith("output.") :]
        for name, tensor in target.items()
    )
