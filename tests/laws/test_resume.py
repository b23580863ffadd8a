"""Laws 2 and 9: killed anywhere and resumed equals never killed; a checkpoint suffices."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayft.data.prepare import PreparedDataset
from rayft.models.model import make_model
from rayft.models.weights import LoadedWeights
from tests.laws.harness import Result, make_spec, run_group

STATEFUL: dict[str, Any] = {
    "ema": {"decay": 0.9},
    "early_stopping": {"metric": "validation/loss", "patience": 2},
    "checkpoint": {"interval_s": 0, "keep": 2},
}
"""Everything that has a memory, and a checkpoint after every step."""


def spec_for(num_workers: int, **changes: Any) -> Any:
    model = make_spec().model_dump(mode="json")["model"]
    model["heads"] = {"label": {"kind": "classification", "dropout": 0.3}}
    return make_spec(
        **{
            **STATEFUL,
            "model": model,
            "scaling": {"num_workers": num_workers, "resources_per_worker": {"CPU": 1}},
            **changes,
        }
    )


@pytest.fixture(scope="module", params=[1, 2, 4])
def whole(
    request: pytest.FixtureRequest,
    prepared: PreparedDataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[int, Result]:
    result = run_group(spec_for(request.param), prepared, tmp_path_factory.mktemp("whole"))
    assert result is not None
    return request.param, result


@pytest.mark.parametrize("steps", [2, 4, 6])
def test_killed_and_resumed_equals_never_killed(
    whole: tuple[int, Result], prepared: PreparedDataset, tmp_path: Path, steps: int
) -> None:
    num_workers, never_killed = whole
    spec = spec_for(num_workers)

    assert run_group(spec, prepared, tmp_path, kill_after=steps) is None
    resumed = run_group(spec, prepared, tmp_path)

    assert resumed is not None
    assert resumed.digest == never_killed.digest
    assert resumed.rows == never_killed.rows[len(never_killed.rows) - len(resumed.rows) :]
    assert 0 < len(resumed.rows) < len(never_killed.rows)


def test_weights_decay_to_where_they_started_after_a_resume_too(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    """A resumed attempt gets no pretrained weights: a checkpoint suffices."""
    model = make_spec().model_dump(mode="json")["model"]
    model["backbone"]["weights"] = {"file": "given.safetensors"}
    decay = {"kind": "adamw", "weight_decay": 20.0, "decay_towards": "pretrained"}
    spec = spec_for(1, model=model, optimizer=decay)
    pretrained = make_model(spec.model, num_classes=3, seed=99).backbone.net.state_dict()
    given = LoadedWeights(state=pretrained, source="a test", sha256="")

    never_killed = run_group(spec, prepared, tmp_path / "whole", weights=given)
    assert run_group(spec, prepared, tmp_path / "killed", kill_after=6, weights=given) is None
    resumed = run_group(spec, prepared, tmp_path / "killed")

    assert never_killed is not None
    assert resumed is not None
    assert resumed.digest == never_killed.digest


def test_a_run_that_augments_on_the_device_resumes_exactly(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_for(1, augment_on="device", mix=[{"kind": "cutmix", "probability": 0.7}])

    never_killed = run_group(spec, prepared, tmp_path / "whole")
    assert run_group(spec, prepared, tmp_path / "killed", kill_after=5) is None
    resumed = run_group(spec, prepared, tmp_path / "killed")

    assert never_killed is not None
    assert resumed is not None
    assert resumed.digest == never_killed.digest


@pytest.mark.parametrize("num_workers", [2, 4])
def test_statistics_of_each_worker_s_own_batches_resume_exactly(
    prepared: PreparedDataset, tmp_path: Path, num_workers: int
) -> None:
    """The first worker's statistics are all that a checkpoint holds, and what all evaluate with."""
    spec = spec_for(num_workers, batch_norm="local", rows_per_device=4)
    never_killed = run_group(spec, prepared, tmp_path / "whole")
    assert never_killed is not None

    for steps in (3, 4, 6):
        folder = tmp_path / f"killed-{steps}"
        assert run_group(spec, prepared, folder, kill_after=steps) is None
        resumed = run_group(spec, prepared, folder)

        assert resumed is not None
        assert resumed.digest == never_killed.digest
        assert epochs(resumed) == epochs(never_killed)[-len(epochs(resumed)) :]


def epochs(result: Result) -> list[dict[str, Any]]:
    """Return what was measured after each epoch, but for what steers nothing."""
    return [
        {name: value for name, value in event["metrics"].items() if name != "train/loss"}
        for event in result.events
        if event["kind"] == "epoch"
    ]


def test_many_kills_in_a_row_converge_to_the_same_bits(
    prepared: PreparedDataset, tmp_path: Path, whole: tuple[int, Result]
) -> None:
    num_workers, never_killed = whole
    spec = spec_for(num_workers)

    for _ in range(3):
        assert run_group(spec, prepared, tmp_path, kill_after=2) is None
    resumed = run_group(spec, prepared, tmp_path)

    assert resumed is not None
    assert resumed.digest == never_killed.digest


def test_stopped_as_asked_loses_no_step(
    prepared: PreparedDataset, tmp_path: Path, whole: tuple[int, Result]
) -> None:
    num_workers, never_killed = whole
    spec = spec_for(num_workers, checkpoint={"interval_s": 1e9, "keep": 2})

    stopped = run_group(spec, prepared, tmp_path, stop_after=3)
    resumed = run_group(spec, prepared, tmp_path)

    assert stopped is not None
    assert stopped.error == "stopped"
    assert resumed is not None
    assert resumed.digest == never_killed.digest
    assert stopped.events[-1]["kind"] == "checkpoint"
    assert len(resumed.rows) == len(never_killed.rows) - 3


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_it_taken(
    prepared: PreparedDataset, tmp_path: Path, whole: tuple[int, Result]
) -> None:
    num_workers, never_killed = whole
    spec = spec_for(num_workers)
    assert run_group(spec, prepared, tmp_path, kill_after=6) is None
    newest = sorted(tmp_path.glob("step-*"))[-1]
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(weights)

    resumed = run_group(spec, prepared, tmp_path)

    assert resumed is not None
    assert resumed.digest == never_killed.digest
    assert resumed.events[0]["kind"] == "damaged"
    assert resumed.events[0]["name"] == newest.name


def test_a_finished_run_has_nothing_left_to_do(prepared: PreparedDataset, tmp_path: Path) -> None:
    first = run_group(spec_for(1), prepared, tmp_path)
    again = run_group(spec_for(1), prepared, tmp_path)

    assert first is not None
    assert again is not None
    assert again.rows == []
    assert again.metrics == first.metrics
    assert all(np.array_equal(again.state[name], value) for name, value in first.state.items())


@pytest.mark.parametrize("resumed_on", [2, 4])
def test_exact_reduction_goes_on_bit_for_bit_on_another_number_of_workers(
    prepared: PreparedDataset, tmp_path: Path, resumed_on: int
) -> None:
    never_killed = run_group(spec_for(1, reduction="exact"), prepared, tmp_path / "whole")

    spec = spec_for(1, reduction="exact")
    assert run_group(spec, prepared, tmp_path / "killed", kill_after=5) is None
    resumed = run_group(spec_for(resumed_on, reduction="exact"), prepared, tmp_path / "killed")

    assert never_killed is not None
    assert resumed is not None
    assert resumed.digest == never_killed.digest


def test_fewer_rows_at_once_go_on_with_the_same_rows_and_the_journal_says_so(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    model = make_spec().model_dump(mode="json")["model"]
    never_killed = run_group(spec_for(2, model=model), prepared, tmp_path / "whole")

    assert run_group(spec_for(2, model=model), prepared, tmp_path / "killed", kill_after=5) is None
    fewer = spec_for(2, model=model, rows_per_device=2)
    resumed = run_group(fewer, prepared, tmp_path / "killed")

    assert never_killed is not None
    assert resumed is not None
    assert resumed.rows == never_killed.rows[-len(resumed.rows) :]
    for name, value in never_killed.state.items():
        np.testing.assert_allclose(resumed.state[name], value, atol=2e-5, err_msg=name)
    said = {"kind": "changed", "setting": "rows_per_device", "before": 1024, "now": 2}
    assert [event for event in resumed.events if event["kind"] == "changed"] == [said]


def test_with_exact_reduction_fewer_rows_at_once_change_no_bit_of_the_weights(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_for(1, reduction="exact")
    never_killed = run_group(spec, prepared, tmp_path / "whole")

    assert run_group(spec, prepared, tmp_path / "killed", kill_after=5) is None
    fewer = spec_for(1, reduction="exact", rows_per_device=4)
    resumed = run_group(fewer, prepared, tmp_path / "killed")

    assert never_killed is not None
    assert resumed is not None
    assert all(np.array_equal(resumed.state[k], value) for k, value in never_killed.state.items())
