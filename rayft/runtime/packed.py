"""Pretrained weights on their way to the workers, through the object store."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from rayft.models.weights import LoadedWeights


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """Weights as numpy arrays, which the object store maps instead of copying."""

    weights: LoadedWeights
    arrays: dict[str, NDArray[np.generic]]


def packed(weights: LoadedWeights | None) -> PackedWeights | None:
    """Return weights ready for the object store."""
    if weights is None:
        return None
    arrays = {name: tensor.numpy() for name, tensor in weights.state.items()}
    return PackedWeights(replace(weights, state={}), arrays)


def unpacked(packed: PackedWeights | None) -> LoadedWeights | None:
    """Return the weights again, on a worker."""
    if packed is None:
        return None
    # The mapped arrays are read-only, which torch tensors cannot be.
    state = {name: torch.tensor(array) for name, array in packed.arrays.items()}
    return replace(packed.weights, state=state)
