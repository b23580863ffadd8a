"""Runs on grey images and on four bands: they train, resume, evaluate and start other runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayft.data.prepare import PreparedDataset
from rayft.errors import CheckpointError
from rayft.runtime.evaluate import evaluate
from rayft.runtime.journal import Event
from rayft.runtime.train import Silence, train
from tests.laws.harness import SIZE, Result, make_spec, pictures, prepare, run_group

CHANNELS = [1, 4]


def bands(*, channels: int) -> Iterator[Any]:
    """Yield the harness's pictures in other channels: their mean, or with the negative of red."""
    for row in pictures(60):
        image = row["image"]
        yield {**row, "image": _grey(image) if channels == 1 else _four(image)}


def _grey(image: np.ndarray) -> np.ndarray:
    return image.mean(axis=2, keepdims=True).astype(np.uint8)


def _four(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image, 255 - image[..., :1]], axis=2)


def spec_of(channels: int, **changes: Any) -> Any:
    return make_spec(
        **{
            "data": {
                "train": {
                    "kind": "python",
                    "function": f"{__name__}:bands",
                    "args": {"channels": channels},
                },
                "validation": {"fraction": 0.2},
                "test": {"fraction": 0.15},
                "image_size": SIZE,
                "channels": channels,
                "normalize": {"kind": "computed"},
            },
            "phases": [{"name": "all", "train": ["all", "heads"], "for": "2 epochs", "lr": 0.01}],
            **changes,
        }
    )


@pytest.fixture(scope="module", params=CHANNELS)
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, PreparedDataset]:
    channels: int = request.param
    return channels, prepare(spec_of(channels), tmp_path_factory.mktemp("rows"))


def test_killed_and_resumed_equals_never_killed(
    prepared: tuple[int, PreparedDataset], tmp_path: Path
) -> None:
    channels, rows = prepared
    spec = spec_of(channels, checkpoint={"interval_s": 0, "keep": 2})

    whole = run_group(spec, rows, tmp_path / "whole")
    killed = run_group(spec, rows, tmp_path / "parts", kill_after=3)
    resumed = run_group(spec, rows, tmp_path / "parts")

    assert whole is not None
    assert killed is None
    assert resumed is not None
    assert resumed.digest == whole.digest
    assert filters(whole).shape[1] == channels


def filters(result: Result) -> np.ndarray:
    (name,) = [n for n in result.state if n.endswith("conv_stem.weight")]
    return result.state[name]


@pytest.fixture(scope="module", params=CHANNELS)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path, dict[str, Any]]:
    """A run in this process: its channels, its folder and what it reported."""
    folder = tmp_path_factory.mktemp("results")
    scaling = {"num_workers": 0}
    found = train(spec_of(request.param, storage_path=str(folder), scaling=scaling))
    return request.param, folder / "run", found


def test_a_checkpoint_evaluates_by_itself_to_what_the_run_found(
    trained: tuple[int, Path, dict[str, Any]],
) -> None:
    channels, run, found = trained

    evaluated = evaluate(run)

    assert evaluated["metrics"]["test/loss"] == found["metrics"]["test/loss"]
    manifest = json.loads((Path(evaluated["checkpoint"]) / "manifest.json").read_text())
    assert manifest["spec"]["data"]["channels"] == channels
    assert len(manifest["mean"]) == len(manifest["std"]) == channels


def test_other_channels_than_a_checkpoint_knows_are_refused(
    trained: tuple[int, Path, dict[str, Any]],
) -> None:
    channels, run, _ = trained

    with pytest.raises(CheckpointError, match=f"trained on {channels} channels") as caught:
        evaluate(run, overrides=["data.channels=3"])

    assert f"set it to {channels}" in str(caught.value)


class Heard(Silence):
    """A listener that keeps what is said of weights."""

    def __init__(self) -> None:
        self.weights: list[Any] = []

    def on_event(self, event: Event) -> None:
        if event["kind"] == "weights":
            self.weights.append(event)


def test_its_weights_start_a_run_of_rgb_and_the_log_says_how(
    trained: tuple[int, Path, dict[str, Any]], tmp_path: Path
) -> None:
    channels, run, _ = trained
    backbone = make_spec().model.backbone.model_dump() | {"weights": {"checkpoint": str(run)}}
    model = {"backbone": backbone, "heads": {"label": {"kind": "classification"}}}
    spec = make_spec(model=model, storage_path=str(tmp_path), scaling={"num_workers": 0})
    heard = Heard()

    found = train(spec, listener=heard)

    assert found["status"] == "finished"
    (event,) = heard.weights
    (note,) = event["notes"]
    assert note.startswith(f"conv_stem.weight for 3 channels made of {channels}: ")
    assert event["source"].startswith(f"checkpoint {run}")
