"""Several views of each image in evaluation, and the mean of what a model says to them.

Source of the idea: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural
networks", section 4.1.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from rayft.models.model import FineTuneModel
from rayft.spec.test_time import TestTimeSpec


def scores_over_views(
    model: FineTuneModel, images: Tensor, spec: TestTimeSpec | None
) -> dict[str, Tensor]:
    """Return scores [n, C] by head; over several views, the logarithm of the mean probability.

    Args:
        model: in evaluation mode.
        images: [n, C, H, W], normalised.
        spec: the `test_time:` section.
    """
    if spec is None:
        scores: dict[str, Tensor] = model(images)
        return scores
    found = [model(view) for view in views(images, spec)]
    return {name: _log_mean([scores[name] for scores in found]) for name in found[0]}


def views(images: Tensor, spec: TestTimeSpec) -> Iterator[Tensor]:
    """Yield the views of images [n, 3, H, W], the images themselves first."""
    for moved in _moved(images, spec.shift):
        yield moved
        if spec.horizontal_flip:
            yield moved.flip(-1)


def _moved(images: Tensor, shift: int) -> Iterator[Tensor]:
    yield images
    if not shift:
        return
    height, width = images.shape[-2:]
    wide = F.pad(images, (shift,) * 4, mode="replicate")
    for top in (0, 2 * shift):
        for left in (0, 2 * shift):
            yield wide[..., top : top + height, left : left + width]


def _log_mean(scores: list[Tensor]) -> Tensor:
    logs = torch.stack([one.float().log_softmax(dim=1) for one in scores])
    return logs.logsumexp(dim=0) - math.log(len(scores))
