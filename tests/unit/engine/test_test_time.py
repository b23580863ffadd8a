"""Views of a row in evaluation: which, and what becomes of their scores."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from rayft.engine.test_time import scores_over_views, views
from rayft.models.model import FineTuneModel
from rayft.spec.test_time import TestTimeSpec


class Left(nn.Module):
    """Scores a picture by the brightness of its left and of its right half."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        half = images.shape[-1] // 2
        parts = [images[..., :half], images[..., half:]]
        return {"label": torch.stack([part.mean(dim=(1, 2, 3)) for part in parts], dim=1)}


MODEL = cast(FineTuneModel, Left())
IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def spec(**settings: Any) -> TestTimeSpec:
    return TestTimeSpec(**settings)


def test_without_views_the_scores_are_the_model_s_own() -> None:
    found = scores_over_views(MODEL, IMAGES, None)

    assert torch.equal(found["label"], MODEL(IMAGES)["label"])


@pytest.mark.parametrize(
    "settings", [{"horizontal_flip": True}, {"shift": 2}, {"horizontal_flip": True, "shift": 1}]
)
def test_scores_are_logarithms_of_the_mean_probability(settings: dict[str, Any]) -> None:
    seen = list(views(IMAGES, spec(**settings)))

    found = scores_over_views(MODEL, IMAGES, spec(**settings))["label"]

    each = torch.stack([MODEL(view)["label"].softmax(dim=1) for view in seen])
    assert len(seen) == spec(**settings).num_views
    assert torch.equal(seen[0], IMAGES)
    assert torch.allclose(found.exp(), each.mean(dim=0), atol=1e-6)


def test_a_mirrored_image_scores_like_the_image() -> None:
    flipped = spec(horizontal_flip=True)

    one = scores_over_views(MODEL, IMAGES, flipped)["label"]
    other = scores_over_views(MODEL, IMAGES.flip(-1), flipped)["label"]

    assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(one[:, 0], one[:, 1], atol=1e-6)


def test_a_moved_image_keeps_its_size_and_repeats_its_border() -> None:
    found = list(views(IMAGES, spec(shift=2)))[1:]

    assert all(view.shape == IMAGES.shape for view in found)
    first = found[0]
    assert torch.equal(first[..., 2:, 2:], IMAGES[..., :-2, :-2])
    assert torch.equal(first[..., 0, 0], IMAGES[..., 0, 0])
    assert len({view.sum().item() for view in found}) == 4
