"""What frozen layers make, made by a pool of Ray actors: the bytes of this process."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.laws.harness import keep, make_spec, prepare

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

HEADS = {"name": "probe", "train": ["heads"], "for": "4 epochs", "lr": 0.01}
SCALING = {"num_workers": 2, "resources_per_worker": {"CPU": 1}}


def spec_of(folder: Path, **changes: Any) -> Any:
    return make_spec(
        **{
            "storage_path": str(folder),
            "phases": [HEADS],
            "cache": {"mode": "require"},
            "scaling": SCALING,
            **changes,
        }
    )


def contents(kept: Any) -> dict[str, bytes]:
    stores = [Path(place) for places in kept.phases[0].values() for place in places]
    return {
        f"{store.name}/{file.name}": file.read_bytes()
        for store in stores
        for file in store.iterdir()
    }


def test_actors_make_the_bytes_of_this_process(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    prepared = prepare(spec, tmp_path / "rows")

    with keep(spec, prepared, tmp_path / "ray", on_ray=True) as there:
        made_there = contents(there)
    with keep(spec, prepared, tmp_path / "here") as here:
        made_here = contents(here)

    assert len(here.phases[0]["train"]) == 2
    assert made_there == made_here


def test_a_whole_run_reads_what_is_kept_and_says_so(tmp_path: Path) -> None:
    from rayft.runtime.train import train

    kept = train(spec_of(tmp_path, augment=[]))
    made = train(spec_of(tmp_path, augment=[], name="made", cache={"mode": "off"}))

    assert [phase["kept"] for phase in kept["phases"]] == [True]
    assert [phase["kept"] for phase in made["phases"]] == [False]
    weights, expected = (
        load_file(Path(str(result["checkpoint"]), "model.safetensors")) for result in (kept, made)
    )
    for name, value in expected.items():
        assert np.array_equal(weights[name], value), name
    assert kept["metrics"] == made["metrics"]
