"""Batches that the device still has to augment: which stored images travel, and for which rows.

Random numbers follow from the rows' ids and views alone, so they are drawn where the pixels are.
"""

from dataclasses import dataclass

import numpy as np

from rayft.feed.order import Ids, RowViews
from rayft.feed.tickets import Ticket
from rayft.store.dataset import Split


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Partners:
    """What the rows of a batch may be mixed with."""

    places: Ids
    """[n] which of the images that travel is each row's partner."""
    labels: Ids
    """[n] class of each partner."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """What a device has to know to finish a batch."""

    rows: RowViews
    """[m] rows and views of the images that travel."""
    own: Ids
    """[n] which of them is each row's."""
    partners: Partners | None
    """None without a `mix:` list."""


def pending_of(ticket: Ticket, split: Split, *, mixes: bool) -> Pending:
    """Return which stored images travel for a ticket, and what is to be made of them."""
    mine = RowViews(row_ids=ticket.row_ids, views=ticket.views)
    if not mixes:
        return Pending(rows=mine, own=np.arange(len(mine.row_ids)), partners=None)
    assert ticket.partners is not None
    rows, own, others = each_once(mine, ticket.partners)
    labels = split.labels_of(ticket.partners.row_ids)
    return Pending(rows=rows, own=own, partners=Partners(places=others, labels=labels))


def each_once(mine: RowViews, partners: RowViews) -> tuple[RowViews, Ids, Ids]:
    """Return the views of both, none twice, and the places among them of each of both.

    Most batches hold their rows' partners, so there are hardly more than `mine`.
    """
    both = np.stack(
        (
            np.concatenate((mine.row_ids, partners.row_ids)),
            np.concatenate((mine.views, partners.views)),
        )
    )
    single, place = np.unique(both, axis=1, return_inverse=True)
    place = place.reshape(-1)
    num_rows = len(mine.row_ids)
    return RowViews(row_ids=single[0], views=single[1]), place[:num_rows], place[num_rows:]
