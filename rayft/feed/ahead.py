"""Bringing shards of a remote store to this machine before their rows are asked for."""

from typing import final

from rayft.feed.order import windows_of_epoch
from rayft.feed.tickets import Ticket
from rayft.plan.order import OrderPlan
from rayft.store.rows import RowStore

_EVALUATION_SHARDS = 4
"""Evaluation walks shards in their order: a few ahead are enough."""


@final
class TrainingAhead:
    """Fetches the window in use and the next one, once for each window.

    The local cache holds three windows, so neither pushes out what is still being read.
    """

    def __init__(self, store: RowStore, order: OrderPlan, *, seed: int) -> None:
        self._store = store
        self._order = order
        self._seed = seed
        self._epoch = -1
        self._window_of_shard: dict[int, int] = {}
        self._begun: tuple[int, int] | None = None

    def after(self, ticket: Ticket) -> None:
        """Look at a ticket whose rows have been gathered."""
        if self._store.place.is_local:
            return
        shard = int(self._store.shards_of(ticket.row_ids[:1])[0])
        windows = windows_of_epoch(self._order, seed=self._seed, epoch=ticket.epoch)
        if ticket.epoch != self._epoch:
            self._epoch = ticket.epoch
            self._window_of_shard = {
                int(member): number for number, window in enumerate(windows) for member in window
            }
        number = self._window_of_shard[shard]
        if self._begun == (ticket.epoch, number):
            return
        self._begun = (ticket.epoch, number)
        if number + 1 == len(windows):
            windows += windows_of_epoch(self._order, seed=self._seed, epoch=ticket.epoch + 1)
        for window in windows[number : number + 2]:
            self._store.fetch_ahead(window.tolist())


def evaluation_ahead(store: RowStore, ticket: Ticket) -> None:
    """Fetch the shards behind a ticket of an evaluation, whose rows have been gathered."""
    if store.place.is_local:
        return
    first = int(store.shards_of(ticket.row_ids).max()) + 1
    last = min(first + _EVALUATION_SHARDS, len(store.manifest.shards))
    store.fetch_ahead(range(first, last))
