"""What a connected cluster is said to reach."""

import json
from pathlib import Path

import pytest

from rayft.storage.location import Location

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def status(*node_types: str) -> bytes:
    return json.dumps(
        {"autoscaler_report": {"active_nodes": dict.fromkeys(node_types, 1)}}
    ).encode()


def test_a_cluster_that_cannot_grow_reaches_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.experimental import internal_kv

    from rayft.runtime.facts import cluster_facts

    # Ray's monitor reports on a cluster without an autoscaler too, each node a type of its own.
    only_nodes = status(*(f"node_{node['NodeID']}" for node in ray.nodes()))
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key: only_nodes)

    facts = cluster_facts(Location(str(tmp_path)))

    assert (facts.cpus, facts.max_cpus, facts.max_gpus) == (4, 4, 0)


def test_a_cluster_that_grows_and_does_not_say_how_far_reaches_an_unknown_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.experimental import internal_kv

    from rayft.runtime.facts import cluster_facts

    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key: status("ray.head.default"))

    assert cluster_facts(Location(str(tmp_path))).max_cpus is None
