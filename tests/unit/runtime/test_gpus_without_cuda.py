"""GPUs that are there, and that torch cannot compute on: their driver is too old for it."""

from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from rayft.runtime import launch
from rayft.runtime.facts import own_facts
from rayft.runtime.predict_scale import this_node
from rayft.storage.location import Location


@pytest.fixture(autouse=True)
def _driver_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    # They are counted without CUDA.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", refuse)


def test_they_are_no_part_of_the_machine(tmp_path: Path) -> None:
    facts = own_facts(Location(str(tmp_path)))

    assert (facts.gpus, facts.max_gpus, facts.device) == (0, 0, "cpu")
    assert facts.gpu_bf16 is None
    assert facts.nodes[0].resources["GPU"] == 0


def test_nothing_is_predicted_on_them() -> None:
    assert this_node().resources["GPU"] == 0


def test_a_cluster_that_is_started_here_does_not_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(launch.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(launch.ray, "init", lambda *_, **options: asked.update(options))
    monkeypatch.setattr(launch, "named_cluster", lambda: None)
    monkeypatch.setattr(launch, "_TRAIN_ENV", {})
    monkeypatch.setattr(launch, "exit_on_sigterm", lambda: None)

    launch.start_ray()

    assert asked["num_gpus"] == 0
