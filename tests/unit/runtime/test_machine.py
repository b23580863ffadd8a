"""What a machine says of its GPUs, and what a plan makes of it."""

from dataclasses import replace

import pytest
import torch

from rayft.plan.resources import plan_resources
from rayft.runtime.machine import this_machine
from tests.unit.plan.conftest import cluster, spec

H100 = "NVIDIA H100 80GB HBM3"


def test_a_machine_names_its_gpus_as_torch_does() -> None:
    found = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}

    assert this_machine(with_gpus=True).gpu_names == tuple(sorted(found))


@pytest.mark.parametrize(("device", "named"), [("cuda", (H100,)), ("cpu", ())])
def test_a_plan_knows_the_gpus_that_it_computes_on(device: str, named: tuple[str, ...]) -> None:
    there = replace(cluster(gpus=1.0, max_gpus=1.0, device="cuda"), gpu_names=(H100,))

    assert plan_resources(spec(device=device), there).gpu_names == named
