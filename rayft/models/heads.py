"""Heads: small networks from features to the scores of one label column."""

from collections.abc import Mapping, Sequence
from typing import assert_never, final

from torch import Tensor, nn

from rayft.spec.model import ClassificationHead


@final
class ScoreHead(nn.Module):
    """Hidden layers and one score for each class.

    Every linear layer's input is normalised, where asked for, and dropped out.
    """

    def __init__(self, spec: ClassificationHead, *, feature_dim: int, num_classes: int) -> None:
        """Build the layers.

        Args:
            spec: widths, dropout and so on.
            feature_dim: D, the width of the features.
            num_classes: C, the number of scores.
        """
        super().__init__()
        inputs = (feature_dim, *spec.hidden)
        self.dropout = nn.Dropout(spec.dropout)
        self.hidden = nn.ModuleList(map(nn.Linear, inputs, spec.hidden))
        self.activation = nn.GELU() if spec.activation == "gelu" else nn.ReLU()
        self.norms = nn.ModuleList(map(nn.LayerNorm, inputs if spec.norm == "layer" else ()))
        self.output = nn.Linear(inputs[-1], num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores [B, C] of `features` [B, D]."""
        for place, layer in enumerate(self.hidden):
            features = self.activation(layer(self._inputs(features, place)))
        scores: Tensor = self.output(self._inputs(features, len(self.hidden)))
        return scores

    def _inputs(self, features: Tensor, place: int) -> Tensor:
        if self.norms:
            features = self.norms[place](features)
        dropped: Tensor = self.dropout(features)
        return dropped


def make_head(spec: ClassificationHead, *, feature_dim: int, num_classes: int) -> ScoreHead:
    """Build the head that `spec` describes, with torch's own initial weights."""
    match spec:
        case ClassificationHead():
            return ScoreHead(spec, feature_dim=feature_dim, num_classes=num_classes)
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
