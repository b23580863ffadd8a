"""What a run reserved is free again when its driver leaves, whoever made it."""

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_what_a_dead_controller_reserved_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    from rayft.runtime import workers

    @ray.remote(num_cpus=0)
    class Controller:
        def reserve(self) -> str:
            self.group = placement_group([{"CPU": 1}])
            self.group.wait(30)
            return str(self.group.id.hex())

    controller = Controller.remote()
    reserved = ray.get(controller.reserve.remote())
    ray.kill(controller)
    before = placement_group_table()
    foreign = reserved[:-8] + "ff" * 4
    table = {**before, foreign: before[reserved]}
    removed = []
    remove = workers.remove_placement_group
    monkeypatch.setattr(workers, "placement_group_table", lambda: table)
    monkeypatch.setattr(
        workers, "remove_placement_group", lambda group: (removed.append(group), remove(group))
    )

    workers.free_reservations()

    assert before[reserved]["state"] == "CREATED"
    assert placement_group_table()[reserved]["state"] == "REMOVED"
    assert reserved in [group.id.hex() for group in removed]
    assert foreign not in [group.id.hex() for group in removed]
