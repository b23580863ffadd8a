"""Build the stores of kept rows that a run wants, all that are missing in one execution.

A store that is there is left to others at once: whoever waits for it need not wait for the rest.
One that cannot be kept takes with it only those that are of no use without it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, final

from rayft.errors import CacheError
from rayft.storage.location import Location
from rayft.store.activation_build import Build, building
from rayft.store.activation_request import ActivationRequest
from rayft.store.activation_use import Use, in_use
from rayft.store.activation_work import ActivationReport, ActivationWork

Shards = Sequence[tuple[str, ActivationWork]]
"""Shards that are to be made, each with the key of its store."""
Reports = Iterable[tuple[str, ActivationReport]]


class Listener(Protocol):
    """Hears how far it is."""

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        ...

    def on_rows(self, done: int, total: int) -> None:
        """Rows were made."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What building stores came to."""

    rows_made: int
    problems: Mapping[str, CacheError]
    """By key why a store cannot be kept."""


@final
class StoreBuilder:
    """Builds stores, and keeps them in use.

    Args:
        store_root: the folder of all stores.
        budget: bytes that all stores together may have.
        listener: hears of it.
        check: called after every shard; what it raises ends the work, and finished shards stay.
    """

    def __init__(
        self,
        store_root: Location,
        *,
        budget: int,
        listener: Listener,
        check: Callable[[], None],
    ) -> None:
        self._store_root = store_root
        self._budget = budget
        self._listener = listener
        self._check = check

    def build(
        self,
        wanted: Sequence[Collection[str]],
        requests: Mapping[str, ActivationRequest],
        run: Callable[[Shards], Reports],
        *,
        uses: ExitStack,
    ) -> Built:
        """Build what is missing, and can be kept.

        Args:
            wanted: keys of stores that are of use together only.
            requests: all of these stores, by key.
            run: makes shards, of several stores at once, and reports them in any order.
            uses: the stores are in use until it is left.

        Raises:
            CacheError: nothing can be kept here.
        """
        # In one order for all runs, or two of them could wait for each other.
        keys = sorted(requests)
        own = {key: uses.enter_context(ExitStack()) for key in keys}
        used = {key: own[key].enter_context(in_use(self._store_root, key)) for key in keys}
        problems: dict[str, CacheError] = {}
        with ExitStack() as locks:
            begun = {key: _Begun(locks.enter_context(ExitStack())) for key in keys}
            for key in keys:
                try:
                    self._begin(begun[key], used[key], requests[key])
                except CacheError as error:
                    problems[key] = error
            needed = _needed(wanted, problems)
            for key in set(keys) - needed:
                begun[key].lock.close()
            made = self._make({key: begun[key] for key in sorted(needed)}, run, problems)
        for key in set(keys) - _needed(wanted, problems):
            # Others may have its room.
            own[key].close()
        return Built(rows_made=made, problems=problems)

    def _begin(self, begun: "_Begun", use: Use, request: ActivationRequest) -> None:
        begun.build = begun.lock.enter_context(
            building(use, request, budget=self._budget, on_wait=self._tell_of_wait)
        )
        if not begun.build.works:
            # It is there, or a build that was killed had made all of its rows.
            begun.finish()

    def _make(
        self,
        begun: Mapping[str, "_Begun"],
        run: Callable[[Shards], Reports],
        problems: dict[str, CacheError],
    ) -> int:
        """Make what is missing; note the stores that could not be finished."""
        shards = [(key, shard) for key, one in begun.items() for shard in one.works]
        if not shards:
            return 0
        total = sum(shard.num_rows for _, shard in shards)
        self._listener.on_stage("running the frozen layers once")
        left, done = Counter(key for key, _ in shards), 0
        try:
            for key, report in run(shards):
                begun[key].take(report)
                left[key] -= 1
                if not left[key]:
                    begun[key].finish()
                    del left[key]
                done += report.record.rows
                self._listener.on_rows(done, total)
                self._check()
        except CacheError as error:
            problems.update(dict.fromkeys(left, error))
        return done

    def _tell_of_wait(self) -> None:
        self._listener.on_stage("waiting for another run that makes the same")


@final
class _Begun:
    """A store whose lock is held until it is finished."""

    def __init__(self, lock: ExitStack) -> None:
        self.lock = lock
        self.build: Build | None = None

    @property
    def works(self) -> Sequence[ActivationWork]:
        assert self.build is not None
        return self.build.works

    def take(self, report: ActivationReport) -> None:
        assert self.build is not None
        self.build.take(report)

    def finish(self) -> None:
        assert self.build is not None
        self.build.commit()
        self.lock.close()


def _needed(wanted: Sequence[Collection[str]], problems: Collection[str]) -> set[str]:
    """Return the stores that are of use although others cannot be kept."""
    return {key for keys in wanted if not set(keys) & set(problems) for key in keys}
