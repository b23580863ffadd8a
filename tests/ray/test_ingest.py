"""Law 6: Ray Data gives the same batches as the worker's own process, byte for byte."""

import numpy as np
import pytest

from rayft.feed.feed import InProcessFeed
from rayft.store.dataset import open_dataset
from tests.laws.harness import make_spec, make_test_plan, prepare

pytestmark = pytest.mark.ray

PUT_TOGETHER = {
    "mix": [{"kind": "mixup", "probability": 0.5}, {"kind": "cutmix", "probability": 0.4}],
    "data": {**make_spec().model_dump(mode="json")["data"], "order": "balanced"},
}


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("num_workers", "rows_per_device"), [(1, 16), (2, 4), (4, 4)])
@pytest.mark.parametrize("start_step", [0, 3])
@pytest.mark.parametrize("puts_together", [False, True])
def test_the_same_bytes_wherever_batches_are_made(
    tmp_path_factory: pytest.TempPathFactory,
    num_workers: int,
    rows_per_device: int,
    start_step: int,
    puts_together: bool,
) -> None:
    from rayft.data.stream import RayDataFeed

    spec = make_spec(
        scaling={"num_workers": num_workers, "resources_per_worker": {"CPU": 1}},
        rows_per_device=rows_per_device,
        augment=[
            {"kind": "random_resized_crop"},
            {"kind": "rotation", "degrees": 15},
            {"kind": "color_jitter", "brightness": 0.3, "hue": 0.1},
            {"kind": "horizontal_flip"},
        ],
        **(PUT_TOGETHER if puts_together else {}),
    )
    prepared = prepare(spec, tmp_path_factory.mktemp("stores"))
    plan = make_test_plan(spec, prepared)
    dataset = open_dataset(prepared.ref)
    phase = plan.phases[1]

    for rank in range(num_workers):
        here = InProcessFeed(plan, dataset, rank=rank)
        there = RayDataFeed(plan, dataset, rank=rank)
        with (
            here.training(phase, start_step=start_step) as ours,
            there.training(phase, start_step=start_step) as theirs,
        ):
            steps = list(zip(ours, theirs, strict=True))
        assert len(steps) == phase.num_steps - start_step
        for expected, found in steps:
            for one, other in zip(expected, found, strict=True):
                assert np.array_equal(one.images, other.images)
                assert one.images.dtype == other.images.dtype
                assert np.array_equal(one.labels, other.labels)
                assert np.array_equal(one.ticket.row_ids, other.ticket.row_ids)
                assert one.ticket.num_rows == other.ticket.num_rows
                assert bool(one.mix) == bool(other.mix) == puts_together
                if one.mix and other.mix:
                    assert np.array_equal(one.mix.labels, other.mix.labels)
                    assert np.array_equal(one.mix.shares, other.mix.shares)
                    assert one.mix.shares.dtype == other.mix.shares.dtype


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("puts_together", [False, True])
def test_what_the_device_augments_is_the_same_wherever_batches_are_made(
    tmp_path_factory: pytest.TempPathFactory, puts_together: bool
) -> None:
    from rayft.data.stream import RayDataFeed

    spec = make_spec(
        augment_on="device",
        scaling={"num_workers": 2, "resources_per_worker": {"CPU": 1}},
        rows_per_device=4,
        **(PUT_TOGETHER if puts_together else {}),
    )
    prepared = prepare(spec, tmp_path_factory.mktemp("stores"))
    plan = make_test_plan(spec, prepared)
    dataset = open_dataset(prepared.ref)
    phase = plan.phases[1]

    with (
        InProcessFeed(plan, dataset, rank=1).training(phase, start_step=2) as ours,
        RayDataFeed(plan, dataset, rank=1).training(phase, start_step=2) as theirs,
    ):
        steps = list(zip(ours, theirs, strict=True))

    assert len(steps) == phase.num_steps - 2
    stored = dataset.splits["train"].store
    for expected, found in steps:
        for one, other in zip(expected, found, strict=True):
            assert one.pending is not None
            assert other.pending is not None
            assert np.array_equal(one.images, other.images)
            assert np.array_equal(one.images, stored.gather(one.pending.rows.row_ids))
            assert np.array_equal(one.labels, other.labels)
            assert np.array_equal(one.pending.rows.views, other.pending.rows.views)
            assert np.array_equal(one.pending.own, other.pending.own)
            assert bool(one.pending.partners) == bool(other.pending.partners) == puts_together
            if one.pending.partners and other.pending.partners:
                assert np.array_equal(one.pending.partners.places, other.pending.partners.places)
                assert np.array_equal(one.pending.partners.labels, other.pending.partners.labels)


def test_blocks_may_end_anywhere() -> None:
    from rayft.data.stream import _Rows

    def block(start: int, stop: int) -> dict[str, np.ndarray]:
        return {"row_ids": np.arange(start, stop)}

    rows = _Rows(iter([block(0, 3), block(3, 3), block(3, 10)]))

    taken = [rows.take(count)["row_ids"].tolist() for count in (2, 4, 4)]

    assert taken == [[0, 1], [2, 3, 4, 5], [6, 7, 8, 9]]
