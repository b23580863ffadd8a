"""Law 6: numbers that fp16 cannot hold end a run before it trains on them, kept or not."""

from pathlib import Path

import pytest

from rayft.data.prepare import PreparedDataset
from rayft.engine.build import new_model
from rayft.errors import RayftError
from rayft.models.weights import LoadedWeights
from rayft.spec.run import RunSpec
from tests.laws.harness import keep, make_test_plan, run_group
from tests.laws.test_prefix import HEADS, spec_of


def large(spec: RunSpec, prepared: PreparedDataset) -> LoadedWeights:
    """Return weights whose features are some millions."""
    state = dict(new_model(make_test_plan(spec, prepared)).backbone.net.state_dict())
    for name in ("bn2.weight", "bn2.bias"):
        state[name] = state[name] * 0 + 1e7
    return LoadedWeights(state=state, source="large ones", sha256="")


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_features_beyond_fp16_are_refused_before_anything_trains(
    prepared: PreparedDataset, tmp_path: Path, mode: str
) -> None:
    spec = spec_of(phases=[HEADS], cache={"mode": mode, "dtype": "fp16"})
    weights = large(spec, prepared)

    with pytest.raises(RayftError) as caught, keep(spec, prepared, tmp_path, weights=weights):
        pass

    (problem,) = caught.value.problems
    assert problem.where == "cache.dtype"
    assert "fp16 ends at 65,504" in problem.what


def test_they_are_refused_where_they_are_made_in_every_epoch_too(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_of(phases=[HEADS], cache={"mode": "auto", "dtype": "fp16"})

    result = run_group(spec, prepared, tmp_path, weights=large(spec, prepared))

    assert result is not None
    assert result.error.startswith("cache.dtype: what the frozen layers make reaches ")
    assert not [event for event in result.events if event["kind"] == "progress"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_other_types_hold_them(prepared: PreparedDataset, tmp_path: Path, dtype: str) -> None:
    spec = spec_of(phases=[HEADS], cache={"mode": "require", "dtype": dtype})

    with keep(spec, prepared, tmp_path, weights=large(spec, prepared)) as kept:
        assert kept.rows_made > 0
