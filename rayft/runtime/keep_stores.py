"""Build the stores of kept rows that a run wants, all that are missing in one execution.

A store that is there is left to others at once: whoever waits for it need not wait for the rest.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol, final

from rayft.storage.location import Location
from rayft.store.activation_build import Build, building
from rayft.store.activation_request import ActivationRequest
from rayft.store.activation_use import in_use
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
        requests: Mapping[str, ActivationRequest],
        run: Callable[[Shards], Reports],
        *,
        uses: ExitStack,
    ) -> int:
        """Build what is missing; return the rows that were made.

        Args:
            requests: the stores, by key.
            run: makes shards, of several stores at once, and reports them in any order.
            uses: the stores are in use until it is left.

        Raises:
            CacheError: a store cannot be kept.
        """
        # In one order for all runs, or two of them could wait for each other.
        keys = sorted(requests)
        used = {key: uses.enter_context(in_use(self._store_root, key)) for key in keys}
        with ExitStack() as locks:
            held = {key: locks.enter_context(ExitStack()) for key in keys}
            builds: dict[str, Build] = {}
            for key in keys:
                builds[key] = held[key].enter_context(
                    building(
                        used[key], requests[key], budget=self._budget, on_wait=self._tell_of_wait
                    )
                )
                if not builds[key].works:
                    # It is there, or a build that was killed had made all of its rows.
                    builds[key].commit()
                    held[key].close()
            return self._make(builds, run, held)

    def _make(
        self,
        builds: Mapping[str, Build],
        run: Callable[[Shards], Reports],
        held: Mapping[str, ExitStack],
    ) -> int:
        shards = [(key, shard) for key, build in builds.items() for shard in build.works]
        if not shards:
            return 0
        total = sum(shard.num_rows for _, shard in shards)
        self._listener.on_stage("running the frozen layers once")
        left, done = Counter(key for key, _ in shards), 0
        for key, report in run(shards):
            builds[key].take(report)
            left[key] -= 1
            if not left[key]:
                builds[key].commit()
                held[key].close()
            done += report.record.rows
            self._listener.on_rows(done, total)
            self._check()
        return done

    def _tell_of_wait(self) -> None:
        self._listener.on_stage("waiting for another run that makes the same")
