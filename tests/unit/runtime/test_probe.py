"""What `rayft plan` measures of making batches."""

from typing import Any

import numpy as np
import pytest

from rayft.plan.facts import ModelFacts
from rayft.runtime import probe
from tests.unit.plan.conftest import model_facts, spec

__all__ = ["model_facts"]


@pytest.mark.parametrize(("augment_on", "shapes"), [("host", {(64, 37, 37, 3)}), ("device", set())])
def test_what_the_device_augments_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, model_facts: ModelFacts, augment_on: str, shapes: set[Any]
) -> None:
    changed: set[Any] = set()
    monkeypatch.setattr(
        "rayft.transforms.resized_crop.CropAndResizeRandomly.__call__",
        lambda self, images, draws: (
            changed.add((64, *images.shape[1:])) or np.zeros((len(images), 32, 32, 3), np.uint8)
        ),
    )
    crop = spec(augment=[{"kind": "random_resized_crop"}], augment_on=augment_on)

    pace = probe._prepare_rows_per_s(crop, model_facts, stored_size=37, stored_as="decoded")

    assert changed == shapes
    assert pace > 0
