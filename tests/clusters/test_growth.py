"""What is read from an autoscaler's configuration, without a cluster."""

import json
from pathlib import Path
from typing import Any

import pytest

from rayft.runtime.each_node import Node
from rayft.runtime.growth import Limits, read_limits, read_monitor, still_to_come
from tests.clusters.cluster import HEAD_TYPE, configuration

HEAD = Node("a", "head", "10.0.0.1", {"CPU": 1.0, "node:__internal_head__": 1.0})
WORKER = Node("b", "worker", "10.0.0.2", {"CPU": 2.0})
TYPES = {
    HEAD_TYPE: {"resources": {"CPU": 1}, "max_workers": 0},
    "pair": {"resources": {"CPU": 2, "memory": 1000}, "max_workers": 3},
    "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 2},
}


def limits(tmp_path: Path, **changes: Any) -> Limits:
    file = tmp_path / "autoscaling.json"
    file.write_text(json.dumps({**configuration(TYPES, gcs_address="127.0.0.1:1"), **changes}))
    found = read_limits(str(file))
    assert isinstance(found, Limits)
    return found


def test_the_nodes_that_are_there_are_taken_from_the_limits(tmp_path: Path) -> None:
    growth = still_to_come(limits(tmp_path), [HEAD, WORKER], {"a": HEAD_TYPE, "b": "pair"})

    assert [(kind.name, kind.count, kind.memory_bytes) for kind in growth.kinds] == [
        ("node type pair", 2, 1000),
        ("node type gpu", 2, 0),
    ]
    assert not any(kind.present for kind in growth.kinds)
    assert growth.most == 4


def test_the_limit_of_all_kinds_together_holds(tmp_path: Path) -> None:
    growth = still_to_come(limits(tmp_path, max_workers=2), [HEAD, WORKER], {"b": "pair"})

    assert growth.most == 1


@pytest.mark.parametrize("content", ["", "[]", "cluster_name: x\n", ": :"])
def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "autoscaling.yaml"
    file.write_text(content)

    assert read_limits(str(file)) == "unseen"
    assert read_limits(str(tmp_path / "missing")) == "unseen"


def test_the_monitor_of_another_cluster_is_not_taken_for_ours() -> None:
    assert read_monitor("1") == "unseen"
