"""Data, rows, checkpoints and results in an object store; two nodes with a cache of their own."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from rayft.storage.location import Location
from tests.clusters.cluster import RAYFT, Cluster, started_cluster
from tests.laws.harness import make_spec, pictures
from tests.s3 import s3_server

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Location]:
    with s3_server() as address:
        yield Location(address)


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")


@pytest.fixture(scope="module")
def cluster(bucket: Location, caches: tuple[Path, Path]) -> Iterator[Cluster]:
    """A head without CPUs, and two nodes that hold one worker each."""
    with started_cluster("--num-cpus=0") as cluster:
        for cache in caches:
            cluster.add_node("--num-cpus=1", RAYFT_CACHE_DIR=str(cache))
        yield cluster


@pytest.fixture(scope="module")
def spec_file(bucket: Location, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for number, row in enumerate(pictures()):
        file = io.BytesIO()
        Image.fromarray(row["image"]).save(file, "PNG")
        (bucket / f"photos/{row['label']}/{number:03d}.png").write_bytes(file.getvalue())
    spec = make_spec(
        storage_path=f"{bucket}/results",
        data={
            "train": {"kind": "folder", "path": f"{bucket}/photos"},
            "validation": {"fraction": 0.2},
            "test": {"fraction": 0.15},
            "image_size": 32,
        },
        scaling={"num_workers": 2, "resources_per_worker": {"CPU": 1}},
    )
    path = tmp_path_factory.mktemp("spec") / "run.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", by_alias=True)))
    return path


def rayft(cluster: Cluster, *words: str) -> dict[str, Any]:
    done = cluster.run(RAYFT, *words, "--json", timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_run_lives_in_an_object_store_and_each_node_has_its_own_cache(
    cluster: Cluster, bucket: Location, caches: tuple[Path, Path], spec_file: Path
) -> None:
    result = rayft(cluster, "train", str(spec_file))

    assert result["status"] == "finished"
    assert result["checkpoint"].startswith(f"{bucket}/results/run/checkpoints/step-")
    (shard,) = [e for e in (bucket / "results/.stores/rows").files() if "shard-" in e.path]
    for cache in caches:
        # The shard, and the index of the store.
        assert sorted(f.stat().st_size for f in (cache / "files").iterdir())[-1] == shard.size
        assert len(list((cache / "files").iterdir())) == 2

    again = rayft(cluster, "train", str(spec_file))
    assert again["status"] == "already finished"

    report = rayft(cluster, "evaluate", result["run"])
    assert report["metrics"]["test/loss"] == pytest.approx(result["metrics"]["test/loss"], abs=1e-4)
    assert report["report"]["worst_rows"][0]["source"].endswith(".png")
