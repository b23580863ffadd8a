"""Law 6: a batch is the same whether the host or the device augments it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.engine.device import Device
from rayft.engine.placing import DeviceBatch, place
from rayft.feed.feed import InProcessFeed
from rayft.feed.prepare import Batch
from rayft.models.model import make_model
from rayft.plan.run_plan import RunPlan
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.laws.harness import SIZE, make_spec, make_test_plan

WRITTEN = make_spec().model_dump(mode="json")
STORED_SIZE = 41
AUGMENT = [
    {"kind": "random_resized_crop"},
    {"kind": "horizontal_flip"},
    {"kind": "trivial_augment"},
    {"kind": "random_erasing", "value": "random"},
]
MIX = [{"kind": "mixup", "probability": 0.5}, {"kind": "cutmix", "probability": 0.4}]


def spec_of(stored_as: str, **changes: Any) -> Any:
    data = {**WRITTEN["data"], "stored_as": stored_as, "stored_size": STORED_SIZE}
    return make_spec(data=data, augment=AUGMENT, rows_per_device=8, **changes)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["decoded", "encoded"])
def larger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreparedDataset:
    return prepare_dataset(
        spec_of(request.param).data,
        base_dir=Path("/nowhere"),
        store_root=Location(str(tmp_path_factory.mktemp("stores"))),
        image_size=SIZE,
        stored_size=STORED_SIZE,
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def batches_of(plan: RunPlan, prepared: PreparedDataset) -> tuple[list[Batch], list[Batch]]:
    feed = InProcessFeed(plan, open_dataset(prepared.ref), rank=0)
    with feed.training(plan.phases[1], start_step=1) as steps:
        training = [batch for shards in steps for batch in shards]
    with feed.evaluation("validation") as evaluation:
        return training, list(evaluation)


def placed(plan: RunPlan, batches: list[Batch], image_size: int | None) -> list[DeviceBatch]:
    device = Device.of_run(plan, torch.device("cpu"))
    backbone = make_model(plan.spec.model, num_classes=3, seed=0).backbone
    return [
        place(replace(batch, prefix=None), device=device, backbone=backbone, image_size=image_size)
        for batch in batches
    ]


@pytest.mark.parametrize("image_size", [None, 20], ids=["whole", "scaled"])
@pytest.mark.parametrize("mix", [[], MIX], ids=["alone", "mixed"])
def test_batches_are_the_same_wherever_they_are_augmented(
    larger: PreparedDataset, mix: list[dict[str, Any]], image_size: int | None
) -> None:
    stored_as = larger.facts.stored_as
    plans = [
        make_test_plan(spec_of(stored_as, mix=mix, augment_on=where), larger)
        for where in ("host", "device")
    ]
    (here, evaluated_here), (there, evaluated_there) = (batches_of(plan, larger) for plan in plans)

    assert {batch.images.shape[1] for batch in here if batch.images is not None} == {SIZE}
    stored = {batch.images.shape[1] for batch in there if batch.images is not None}
    assert stored == {STORED_SIZE}
    both = placed(plans[0], here, image_size), placed(plans[1], there, image_size)
    for one, other in zip(*both, strict=True):
        assert one.inputs.shape[2:] == (image_size or SIZE, image_size or SIZE)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.targets.labels, other.targets.labels)
        assert (one.targets.shares is None) == (other.targets.shares is None) == (not mix)
        if one.targets.shares is not None and other.targets.shares is not None:
            assert one.targets.partner_labels is not None
            assert other.targets.partner_labels is not None
            assert torch.equal(one.targets.shares, other.targets.shares)
            assert torch.equal(one.targets.partner_labels, other.targets.partner_labels)
    for seen, other in zip(evaluated_here, evaluated_there, strict=True):
        assert np.array_equal(seen.images, other.images)


def test_an_image_travels_once_though_it_is_a_partner_as_well(larger: PreparedDataset) -> None:
    spec = spec_of(larger.facts.stored_as, mix=MIX, augment_on="device")

    training, _ = batches_of(make_test_plan(spec, larger), larger)

    for batch in training:
        assert len(batch.labels) <= len(batch.images) <= len(batch.labels) + 1
