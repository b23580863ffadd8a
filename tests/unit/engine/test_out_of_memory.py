"""A GPU's memory that ends is told with the setting that is too large, and a smaller value."""

import re
from collections.abc import Callable

import pytest
import torch

from rayft.engine.out_of_memory import out_of_memory_told
from rayft.errors import TrainingError
from rayft.plan.run_plan import RunPlan
from tests.unit.plan.conftest import model_facts, planned

__all__ = ["model_facts", "planned"]

Planned = Callable[..., RunPlan]
SAID = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 3.12 MiB is free. Including non-PyTorch memory, this process has 79.08 GiB memory in "
    "use. See documentation for Memory Management"
)


def told(plan: RunPlan, rows: int | None = None) -> str:
    with pytest.raises(TrainingError) as caught, out_of_memory_told(plan, rows=rows):
        raise torch.OutOfMemoryError(SAID)
    return str(caught.value)


def test_the_message_names_the_setting_its_value_and_a_smaller_one(planned: Planned) -> None:
    assert told(planned()) == (
        "rows_per_device: 10 rows at once do not fit into the GPU's memory; rows_per_device is "
        "1024 (CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of "
        "79.10 GiB of which 3.12 MiB is free)\n"
        "  fix: set rows_per_device to 5; a run that has begun goes on with it"
    )


def test_who_follows_it_holds_fewer_rows_each_time(planned: Planned) -> None:
    held, message = [], ""
    changes: dict[str, int] = {}
    while not held or (advice := re.search(r"set rows_per_device to (\d+)", message)):
        if held:
            assert advice
            changes = {"rows_per_device": int(advice[1])}
        plan = planned(**changes)
        held.append(plan.batches.rows_per_shard)
        message = told(plan)

    assert held == [10, 5, 2, 1]
    assert message.endswith("use a smaller image_size or backbone, or a larger GPU")


def test_evaluation_holds_no_shards(planned: Planned) -> None:
    plan = planned(global_batch_size=4, reduction="exact")

    message = told(plan, rows=plan.evaluation_rows)

    assert "128 rows at once" in message
    assert "set rows_per_device to 64;" in message


def test_no_number_is_told_that_shards_of_exact_reduction_exceed(planned: Planned) -> None:
    plan = planned(global_batch_size=512, reduction="exact")

    for rows in (plan.evaluation_rows, 32):
        assert "raise reduction.shards, which is 4" in told(plan, rows=rows)


def test_shards_of_exact_reduction_are_no_smaller_for_fewer_rows_at_once(planned: Planned) -> None:
    message = told(planned(reduction={"kind": "exact", "shards": 2}))

    assert "5 rows at once" in message
    assert "raise reduction.shards, which is 2, in a run of another name" in message


def test_other_errors_pass(planned: Planned) -> None:
    with pytest.raises(RuntimeError, match="a driver"), out_of_memory_told(planned(), rows=10):
        raise RuntimeError("a driver")
