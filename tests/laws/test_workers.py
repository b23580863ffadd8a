"""Laws 1, 3 and 7: the result does not depend on the number of workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayft.data.prepare import PreparedDataset
from tests.laws.harness import Result, make_spec, run_group

WORKERS = (1, 2, 4)
TOLERANCE = 2e-5
"""Largest difference of a weight after a run of 15 steps in fp32; sums differ in their order."""

WRITTEN = make_spec().model_dump(mode="json")
WEIGHTED = {"label": {"kind": "classification", "class_weights": {"stripe1": 2.0}}}
PUT_TOGETHER: dict[str, Any] = {
    "mix": [{"kind": "mixup", "probability": 0.5}, {"kind": "cutmix", "probability": 0.4}],
    "data": {**WRITTEN["data"], "order": "balanced"},
    "model": {**WRITTEN["model"], "heads": WEIGHTED},
}


def run(prepared: PreparedDataset, folder: Path, num_workers: int, **changes: Any) -> Result:
    spec = make_spec(
        scaling={"num_workers": num_workers, "resources_per_worker": {"CPU": 1}}, **changes
    )
    result = run_group(spec, prepared, folder / f"checkpoints-{num_workers}")
    assert result is not None
    assert not result.error
    return result


@pytest.fixture(scope="module")
def plain(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("plain")
    return [run(prepared, folder, num) for num in WORKERS]


@pytest.fixture(scope="module")
def put_together(
    prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory
) -> list[Result]:
    """Runs whose images are made of two rows, whose rows are balanced and whose classes weigh."""
    folder = tmp_path_factory.mktemp("put_together")
    return [run(prepared, folder, num, reduction="exact", **PUT_TOGETHER) for num in WORKERS]


@pytest.fixture(scope="module")
def exact(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("exact")
    heads = {"label": {"kind": "classification", "dropout": 0.3, "hidden": [32]}}
    model = {**make_spec().model_dump(mode="json")["model"], "heads": heads}
    return [run(prepared, folder, num, reduction="exact", model=model) for num in WORKERS]


def test_the_same_rows_fall_into_the_same_steps(plain: list[Result]) -> None:
    assert plain[0].rows == plain[1].rows == plain[2].rows
    assert len(plain[0].rows) == 12


def test_every_row_is_trained_once_in_every_epoch(
    plain: list[Result], prepared: PreparedDataset
) -> None:
    per_epoch = len(plain[0].rows) // 3
    expected = prepared.facts.num_rows("train")

    for epoch in range(3):
        part = plain[2].rows[epoch * per_epoch : (epoch + 1) * per_epoch]
        rows = [row for _, _, counted in part for row in counted]
        assert len(rows) == len(set(rows)) == expected


def test_weights_agree_within_the_tolerance(plain: list[Result]) -> None:
    for other in plain[1:]:
        for name, value in plain[0].state.items():
            np.testing.assert_allclose(other.state[name], value, atol=TOLERANCE, err_msg=name)


def test_metrics_are_over_all_rows_of_all_workers(plain: list[Result]) -> None:
    for other in plain[1:]:
        assert other.metrics == pytest.approx(plain[0].metrics, abs=1e-4)


def test_exact_reduction_gives_every_bit_on_any_number_of_workers(exact: list[Result]) -> None:
    assert exact[0].digest == exact[1].digest == exact[2].digest


def test_rows_that_are_put_together_and_balanced_give_every_bit_as_well(
    put_together: list[Result], exact: list[Result]
) -> None:
    assert put_together[0].digest == put_together[1].digest == put_together[2].digest
    assert put_together[0].rows == put_together[2].rows
    assert put_together[0].digest != exact[0].digest


def test_augmenting_on_the_device_gives_every_bit_as_well(
    prepared: PreparedDataset, tmp_path: Path, put_together: list[Result]
) -> None:
    on_device = [
        run(prepared, tmp_path, num, reduction="exact", augment_on="device", **PUT_TOGETHER)
        for num in WORKERS
    ]

    # On a CPU even the bits of the run that augments on the host.
    assert {result.digest for result in on_device} == {put_together[0].digest}
    assert on_device[2].rows == put_together[2].rows


def test_exact_reduction_gives_every_bit_of_every_metric(exact: list[Result]) -> None:
    # The training loss is a sum over ranks in float64 and may round otherwise.
    kept = [{k: v for k, v in r.metrics.items() if k != "train/loss"} for r in exact]

    assert kept[0] == kept[1] == kept[2]


def test_micro_batches_add_up_to_the_batch(
    prepared: PreparedDataset, tmp_path: Path, plain: list[Result]
) -> None:
    accumulated = run(prepared, tmp_path, 2, rows_per_device=2)

    for name, value in plain[0].state.items():
        np.testing.assert_allclose(accumulated.state[name], value, atol=TOLERANCE, err_msg=name)


def test_frozen_groups_are_bitwise_unchanged(plain: list[Result]) -> None:
    from rayft.models.model import make_model

    spec = make_spec()
    before = make_model(spec.model, num_classes=3, seed=spec.seed).state_dict()

    moved = [
        name
        for name, value in plain[2].state.items()
        if not np.array_equal(before[name].numpy(), value)
    ]

    assert moved
    frozen = ("backbone.net.conv_stem", "backbone.net.bn1", "backbone.net.blocks.0")
    assert not [name for name in moved if name.startswith(frozen)]
    assert not [name for name in moved if "running_" in name]
