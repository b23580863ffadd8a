"""Before the workers start: what frozen layers make of the rows is made once, and kept.

The work of all stores that are missing is one execution of a pool of actors, or a loop here.
Where nothing can be kept, the run goes on and makes it in every epoch, with the same result.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch

from rayft.engine.device import Device
from rayft.engine.fill import Filler, FillWork
from rayft.engine.ports import Json
from rayft.engine.prefix import row_shape
from rayft.errors import CacheError, Problem, Stopped
from rayft.feed.kept import KeptRef
from rayft.feed.wanted import WantedStore
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.beginning import Beginning, Begun, phases_to_come
from rayft.runtime.journal import Event
from rayft.runtime.keep_stores import Reports, Shards, StoreBuilder
from rayft.runtime.stop_at_once import StoppedBySignal, stopping_on_signals
from rayft.storage.location import Location
from rayft.store.activation_request import ActivationRequest
from rayft.store.activation_use import place_of
from rayft.store.activation_work import ActivationReport, ActivationWork


class Listener(Protocol):
    """Hears what becomes of the frozen layers."""

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        ...

    def on_rows(self, done: int, total: int) -> None:
        """Rows were made."""
        ...

    def on_event(self, event: Event) -> None:
        """A phase cannot keep what it wanted kept, and the run goes on without."""
        ...


@contextmanager
def keeping(
    plan: RunPlan,
    beginning: Beginning,
    *,
    store_root: Location,
    environment: Mapping[str, str] | None,
    listener: Listener,
) -> Iterator[KeptRef]:
    """Make what phases want kept, as far as it is missing; nobody removes it in the `with` block.

    Args:
        plan: the run.
        beginning: its rows and weights.
        store_root: the folder of all stores.
        environment: variables that Ray actors need and do not inherit; None makes it here.
        listener: hears of it.

    Raises:
        CacheError: `cache.mode` is `require`, and a phase cannot keep what the plan says.
        DataError: a row cannot be read.
        Stopped: a signal asked for it; what was made is kept.
    """
    to_come = phases_to_come(plan, beginning.folder)
    phases = [phase for phase in to_come if phase.prefix and phase.prefix.keeps]
    if not phases:
        yield KeptRef(phases={}, rows_made=0)
        return
    with ExitStack() as stack:
        try:
            with stopping_on_signals() as check, ExitStack() as uses:
                ref = _Fill(plan, beginning, environment, check).keep(
                    phases, uses, store_root=store_root, listener=listener
                )
                check()
                # From here on they are in use until the run ends; before, until something fails.
                stack.enter_context(uses.pop_all())
        except StoppedBySignal as stopped:
            what = "stopped as asked, before the first step of this attempt"
            fix = "run the same command again to go on"
            place = str(beginning.folder.place)
            raise Stopped(Problem(place, what, fix), signal=stopped.signal) from None
        except CacheError as error:
            _tell(plan, phases, error, listener)
            ref = KeptRef(phases={}, rows_made=0)
        yield ref


def _tell(
    plan: RunPlan, phases: Sequence[PhasePlan], error: CacheError, listener: Listener
) -> None:
    """Tell that phases keep nothing; that is an error where it is required."""
    if plan.spec.cache.mode == "require":
        raise error
    names: list[Json] = [phase.name for phase in phases]
    event: Event = {"kind": "not_kept", "phases": names, "problem": error.problems[0].what}
    listener.on_event(event)


class _Fill:
    def __init__(
        self,
        plan: RunPlan,
        beginning: Beginning,
        environment: Mapping[str, str] | None,
        check: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._check = check
        self._environment = environment
        self._begun = Begun(plan, beginning)
        self._ref = beginning.dataset

    def keep(
        self,
        phases: Sequence[PhasePlan],
        stack: ExitStack,
        *,
        store_root: Location,
        listener: Listener,
    ) -> KeptRef:
        """Make what is missing; what is kept is in use until the stack is left."""
        stores: dict[str, WantedStore] = {}
        keys: dict[int, set[str]] = defaultdict(set)
        found: dict[int, dict[SplitName, tuple[str, ...]]] = defaultdict(dict)
        for phase in phases:
            for split, views in self._begun.wanted(phase).items():
                stores |= {view.key: view for view in views}
                keys[phase.index] |= {view.key for view in views}
                found[phase.index][split] = tuple(
                    str(place_of(store_root, view.key)) for view in views
                )
        builder = StoreBuilder(
            store_root, budget=self._plan.cache_budget, listener=listener, check=self._check
        )
        requests = {key: self._request(view) for key, view in stores.items()}

        def run(shards: Shards) -> Reports:
            works = [_fill_work(stores[key], shard) for key, shard in shards]
            return self._run(works, store_root.parent)

        built = builder.build([*keys.values()], requests, run, uses=stack)
        lost = self._without(phases, keys, built.problems, listener)
        kept = {index: places for index, places in found.items() if index not in lost}
        return KeptRef(phases=kept, rows_made=built.rows_made)

    def _without(
        self,
        phases: Sequence[PhasePlan],
        keys: Mapping[int, set[str]],
        problems: Mapping[str, CacheError],
        listener: Listener,
    ) -> set[int]:
        """Tell which phases go on without what they wanted kept, and why; return their indexes."""
        lost: dict[CacheError, list[PhasePlan]] = defaultdict(list)
        for phase in phases:
            if failed := keys[phase.index] & problems.keys():
                lost[problems[min(failed)]].append(phase)
        for error, without in lost.items():
            _tell(self._plan, without, error, listener)
        return {phase.index for without in lost.values() for phase in without}

    def _request(self, wanted: WantedStore) -> ActivationRequest:
        prefix = self._plan.phases[wanted.phase].prefix
        assert prefix is not None
        return ActivationRequest(
            key=wanted.key,
            about=wanted.about,
            shape=row_shape(prefix, self._begun.model.backbone, self._plan.spec.memory_format),
            dtype=prefix.dtype,
            num_rows=len(wanted.row_ids),
        )

    def _run(self, works: Sequence[FillWork], storage: Location) -> Reports:
        if self._environment is not None:
            from rayft.runtime.fill_pool import run_on_ray

            return run_on_ray(
                self._plan,
                self._ref,
                self._begun.model,
                works,
                storage=storage,
                environment=self._environment,
            )
        return _run_here(self._plan, self._begun, works)


def _fill_work(wanted: WantedStore, shard: ActivationWork) -> FillWork:
    return FillWork(
        key=wanted.key,
        phase=wanted.phase,
        split=wanted.split,
        view=wanted.view,
        row_ids=wanted.row_ids[shard.start : shard.stop],
        shard=shard,
    )


def _run_here(
    plan: RunPlan, begun: Begun, works: Sequence[FillWork]
) -> Iterator[tuple[str, ActivationReport]]:
    before = torch.get_num_threads()
    torch.set_num_threads(plan.resources.threads_per_worker)
    keep_freed_memory()
    device = Device.of_run(plan, torch.device(plan.resources.device))
    device.place(begun.model)
    filler = Filler(plan, begun.dataset, model=begun.model, device=device)
    try:
        yield from map(filler, works)
    finally:
        torch.set_num_threads(before)
