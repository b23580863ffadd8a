"""Several runs that keep what frozen layers make below one `storage_path`."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from rayft.data.prepare import PreparedDataset
from rayft.plan.prefix import PrefixPlan
from rayft.plan.run_plan import RunPlan
from rayft.runtime.beginning import Beginning, Begun
from rayft.runtime.folder import RunFolder
from rayft.runtime.kept_already import plan_with_kept, planned_with_kept
from rayft.runtime.preflight import places_of, plan_before
from rayft.runtime.train import Silence, train
from rayft.storage.commit import exclusive
from rayft.storage.location import Location
from rayft.store.activation_use import FOLDER
from tests.laws.harness import keep, make_test_plan
from tests.laws.test_prefix import HEADS, TOP, spec_of


class Slow(Silence):
    """Holds a run where it has made its first rows."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = Event(), Event()

    def on_rows(self, done: int, total: int) -> None:
        self.begun.set()
        assert self.may_go_on.wait(60)


def test_a_store_that_is_there_is_not_held_while_others_are_made(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    def rows_made(listener: Silence, **changes: object) -> int:
        with keep(spec_of(**changes), prepared, tmp_path, listener=listener) as kept:
            return kept.rows_made

    # The last phase also keeps the rows of the test split.
    assert rows_made(Silence(), phases=[TOP]) > 0
    slow = Slow()
    with ThreadPoolExecutor(2) as threads:
        both = threads.submit(rows_made, slow)
        try:
            assert slow.begun.wait(60)
            alone = threads.submit(rows_made, Silence(), phases=[TOP])
            assert alone.result(timeout=30) == 0
        finally:
            slow.may_go_on.set()
        assert both.result(timeout=60) > 0


def test_a_run_says_that_it_waits_for_another(prepared: PreparedDataset, tmp_path: Path) -> None:
    with keep(spec_of(phases=[HEADS]), prepared, tmp_path) as kept:
        key = Path(kept.phases[0]["train"][0]).name
    stages: list[str] = []

    with ExitStack() as other:
        other.enter_context(
            exclusive(tmp_path / "stores/locks" / f"{FOLDER}-{key}.lock", wait=False)
        )

        class Hears(Silence):
            def on_stage(self, text: str) -> None:
                stages.append(text)
                other.close()

        with keep(spec_of(phases=[HEADS]), prepared, tmp_path, listener=Hears()) as again:
            assert again.phases == kept.phases

    assert stages == ["waiting for another run that makes the same"]


def prefixes(plan: RunPlan) -> list[PrefixPlan]:
    return [phase.prefix for phase in plan.phases if phase.prefix]


def test_every_kind_of_device_keeps_its_own(prepared: PreparedDataset, tmp_path: Path) -> None:
    folder = RunFolder(Location(str(tmp_path)), "run")
    beginning = Beginning(dataset=prepared.ref, weights=None, folder=folder)

    def keys(**device: Any) -> set[str]:
        plan = make_test_plan(spec_of(phases=[HEADS]), prepared)
        plan = replace(plan, resources=replace(plan.resources, **device))
        wanted = Begun(plan, beginning).wanted(plan.phases[0])
        return {store.key for stores in wanted.values() for store in stores}

    cpu, one, other, again = (
        keys(),
        keys(device="cuda", gpu_names=("NVIDIA L4",)),
        keys(device="cuda", gpu_names=("NVIDIA H100 80GB HBM3",)),
        keys(device="cuda", gpu_names=("NVIDIA L4",)),
    )

    assert len(cpu | one | other) == len(cpu) + len(one) + len(other)
    assert one == again


def test_the_plan_counts_what_is_there_as_made(prepared: PreparedDataset, tmp_path: Path) -> None:
    spec = spec_of()
    folder = RunFolder(Location(str(tmp_path)), "another")
    beginning = Beginning(dataset=prepared.ref, weights=None, folder=folder)
    stores = Location(str(tmp_path / "stores"))

    before = plan_with_kept(make_test_plan(spec, prepared), beginning, store_root=stores)
    with keep(spec_of(phases=[TOP]), prepared, tmp_path):
        pass
    after = plan_with_kept(make_test_plan(spec, prepared), beginning, store_root=stores)

    assert before == make_test_plan(spec, prepared)
    probe, top = prefixes(after)
    assert probe == prefixes(before)[0]
    assert top.reason.startswith("kept already: ")
    assert top.fill_s == 0


def test_rayft_plan_says_what_an_earlier_run_has_kept(tmp_path: Path) -> None:
    def planned(name: str) -> str:
        spec = spec_of(
            name=name, storage_path=str(tmp_path), scaling={"num_workers": 0}, phases=[HEADS]
        )
        places = places_of(spec)
        (found,) = prefixes(planned_with_kept(spec, places, plan_before(spec, places)))
        if name == "first":
            assert train(spec)["status"] == "finished"
        return found.reason

    assert "kept already" not in planned("first")
    assert "kept already" in planned("second")
