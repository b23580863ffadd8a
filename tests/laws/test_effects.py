"""Every setting that is to change a run does so: none is lost on its way to the step."""

from pathlib import Path
from typing import Any

import pytest

from rayft.data.prepare import PreparedDataset
from rayft.models.model import make_model
from rayft.models.weights import LoadedWeights
from tests.laws.harness import Result, make_spec, run_group

WRITTEN: dict[str, Any] = make_spec().model_dump(mode="json", by_alias=True)
FROM_FILE = {"backbone": {**WRITTEN["model"]["backbone"], "weights": {"file": "given"}}}
HEAD = {"kind": "classification"}
DECAY = {"kind": "adamw", "weight_decay": 1.0}
CHANGES: dict[str, dict[str, Any]] = {
    "mixup": {"mix": [{"kind": "mixup"}]},
    "cutmix": {"mix": [{"kind": "cutmix"}]},
    "balanced order": {"data": {**WRITTEN["data"], "order": "balanced"}},
    "class weights": {"heads": {"label": {**HEAD, "class_weights": {"stripe1": 3.0}}}},
    "label smoothing": {"heads": {"label": {**HEAD, "label_smoothing": 0.2}}},
    "head norm": {"heads": {"label": {**HEAD, "norm": "layer"}}},
    "decay to the pretrained": {"optimizer": {**DECAY, "decay_towards": "pretrained"}},
    "averages": {"ema": {"decay": 0.9}},
    "smaller images": {"phases": [{**each, "image_size": 16} for each in WRITTEN["phases"]]},
}


def run(prepared: PreparedDataset, folder: Path, **changes: Any) -> Result:
    model = {**FROM_FILE, "heads": changes.pop("heads", {"label": HEAD})}
    spec = make_spec(**{"model": model, "optimizer": DECAY, **changes})
    pretrained = make_model(spec.model, num_classes=3, seed=99).backbone.net.state_dict()
    given = LoadedWeights(state=pretrained, source="a test", sha256="")
    result = run_group(spec, prepared, folder, weights=given)
    assert result is not None
    assert not result.error
    return result


@pytest.fixture(scope="module")
def plain(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(prepared, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_what_is_trained(
    plain: Result, prepared: PreparedDataset, tmp_path: Path, name: str
) -> None:
    assert run(prepared, tmp_path, **CHANGES[name]).digest != plain.digest


def test_where_images_are_augmented_changes_nothing(
    plain: Result, prepared: PreparedDataset, tmp_path: Path
) -> None:
    """It moves work and no more: law 6. The operations give the same bytes in both places."""
    assert run(prepared, tmp_path, augment_on="device").digest == plain.digest


@pytest.mark.parametrize("views", [{"horizontal_flip": True}, {"shift": 2}])
def test_views_at_test_time_change_the_figures_and_no_weight(
    plain: Result, prepared: PreparedDataset, tmp_path: Path, views: dict[str, Any]
) -> None:
    found = run(prepared, tmp_path, test_time=views)

    for name, value in plain.state.items():
        assert (found.state[name] == value).all()
    assert found.metrics["test/loss"] != plain.metrics["test/loss"]
