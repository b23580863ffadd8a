"""Works on a pool of actors whose processes end."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rayft.errors import RayftError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def ends_process(folder: Path, *, times: int) -> Callable[[int], int]:
    """Return a function that doubles numbers; 3 ends its process, so many times."""

    def double(number: int) -> int:
        if number == 3 and len(list(folder.iterdir())) < times:
            (folder / str(os.getpid())).touch()
            os._exit(1)
        return 2 * number

    return double


def doubled(folder: Path, *, times: int) -> list[int]:
    from rayft.data.actor_pool import Pool, run_on_actors

    pool = Pool(size=2, num_cpus=1, num_gpus=0, custom={}, environment={}, works_at_once=1)
    make = partial(ends_process, folder, times=times)
    return sorted(run_on_actors(list(range(8)), make=make, pool=pool))


def wait_for_all_cpus() -> bool:
    import ray

    until = time.monotonic() + 10
    while time.monotonic() < until:
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.usefixtures("nothing_collected")
def test_an_actor_whose_process_ends_is_replaced(tmp_path: Path) -> None:
    assert doubled(tmp_path, times=2) == [2 * number for number in range(8)]
    assert len(list(tmp_path.iterdir())) == 2
    # The others of its execution are gone too, although the error that ended it refers to them.
    assert wait_for_all_cpus()


@pytest.mark.timeout(120)
def test_a_work_that_always_ends_its_process_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(RayftError) as caught:
        doubled(tmp_path, times=1000)

    (problem,) = caught.value.problems
    assert problem.what.startswith("the process of an actor ended 4 times")
    assert "\n" not in problem.what
    assert len(list(tmp_path.iterdir())) >= 4
