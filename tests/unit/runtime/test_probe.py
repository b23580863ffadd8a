"""What `rayft plan` measures of making batches and of the model."""

from typing import Any

import numpy as np
import pytest

from rayft.plan.facts import ModelFacts, Paces
from rayft.plan.resources import plan_resources
from rayft.runtime import probe
from tests.unit.plan.conftest import cluster, data, model_facts, spec

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


class ProbedAt7:
    """A model that trains 7 rows a second in any precision."""

    def __init__(self, *facts: object, num_classes: int) -> None:
        pass

    def rows_per_s(self, precisions: tuple[bool, ...]) -> dict[bool, float]:
        return dict.fromkeys(precisions, 7.0)

    def paces(self) -> dict[int, Paces]:
        return {}


@pytest.mark.parametrize(
    ("use_gpu", "there", "measured"),
    [
        (False, {"gpus": 1.0, "max_gpus": 1.0, "device": "cuda", "cpu_bf16": True}, True),
        (True, {"gpus": 0.0, "max_gpus": None, "device": "cpu"}, False),
    ],
)
def test_the_model_is_probed_where_the_workers_compute_on_cpus(
    monkeypatch: pytest.MonkeyPatch,
    model_facts: ModelFacts,
    use_gpu: bool,
    there: dict[str, Any],
    measured: bool,
) -> None:
    monkeypatch.setattr(probe, "_Step", ProbedAt7)
    run, facts = spec(scaling={"num_workers": 1, "use_gpu": use_gpu}), cluster(**there)

    found = probe.measure_speeds(
        run,
        model_facts,
        facts,
        resources=plan_resources(run, facts),
        data=data(),
        stored_size=37,
    )

    assert (found.fp32_rows_per_s == 7) == measured
    assert found.bf16_rows_per_s == (7 if measured else None)
