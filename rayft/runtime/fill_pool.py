"""Run frozen layers by a pool of Ray actors: as many as there will be workers, of their size."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ray
import torch

from rayft.data.actor_pool import Pool, run_on_actors
from rayft.engine.build import new_model
from rayft.engine.device import Device
from rayft.engine.fill import Filler, FillWork
from rayft.models.model import FineTuneModel
from rayft.plan.run_plan import RunPlan
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.nodes import check_nodes
from rayft.runtime.signals import StopRequest
from rayft.runtime.waiting import wait_for_room
from rayft.storage.location import Location
from rayft.store.activation_work import ActivationReport
from rayft.store.dataset import DatasetRef, open_dataset


def run_on_ray(
    plan: RunPlan,
    dataset: DatasetRef,
    model: FineTuneModel,
    works: Sequence[FillWork],
    *,
    storage: Location,
    environment: Mapping[str, str],
) -> Iterator[tuple[str, ActivationReport]]:
    """Make shards of kept rows; gives for each the key of its store and its report, in any order.

    Args:
        plan: the run.
        dataset: its rows.
        model: with the weights that the run begins with.
        works: the shards, at least one.
        storage: the folder of all runs, which every node must see.
        environment: variables that the actors need and do not inherit.

    Raises:
        ClusterError: the nodes that were waited for did not come, or differ from the driver.
    """
    resources = plan.resources
    # Ray Data would wait without end, and say nothing.
    wait_for_room(resources, wait_s=plan.spec.scaling.wait_s, request=StopRequest())
    if resources.must_wait:
        # Nodes have come since the others were checked.
        check_nodes(storage)
    pool = Pool(
        size=min(resources.num_workers, len(works)),
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker,
        custom=dict(resources.custom_per_worker),
        environment=environment,
        works_at_once=1,
    )
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    # Ray warns of actors whose arguments are too large to be sent with them.
    given = ray.put((plan, dataset.to_json(), state))
    return run_on_actors(works, make=partial(_make_filler, given), pool=pool)


def _make_filler(given: "ray.ObjectRef[Any]") -> Filler:
    plan, dataset, state = ray.get(given)
    torch.set_num_threads(plan.resources.threads_per_worker)
    keep_freed_memory()
    device = Device.of_run(plan, torch.device(plan.resources.device))
    model = new_model(plan)
    # The arrays lie in the object store, read-only, which torch tensors cannot be.
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    device.place(model)
    opened = open_dataset(DatasetRef.from_json(dataset))
    return Filler(plan, opened, model=model, device=device)
