"""From a ticket to a batch: gather rows by id, augment them, in whole batches.

A pure function of the row store and the ticket: where it runs changes no byte.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.feed.ahead import TrainingAhead, evaluation_ahead
from rayft.feed.gather import gather_images
from rayft.feed.tickets import Ticket
from rayft.plan.order import OrderPlan
from rayft.spec.run import RunSpec
from rayft.store.dataset import Split
from rayft.transforms.augment import center_crop, make_augmentation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The rows of one ticket, ready for a device."""

    images: NDArray[np.uint8]
    """[n, H, W, 3]; not normalised, so that a quarter of the bytes travel."""
    labels: NDArray[np.int64]
    """[n] class of each row."""
    ticket: Ticket


Prepare = Callable[[Ticket], Batch]


def make_training_prepare(
    spec: RunSpec, split: Split, *, order: OrderPlan, image_size: int, threads: int
) -> Prepare:
    """Return the function that makes training batches: random views, drawn per row."""
    augment = make_augmentation(spec.augment, image_size=image_size, seed=spec.seed)
    ahead = TrainingAhead(split.store, order, seed=spec.seed)

    def prepare(ticket: Ticket) -> Batch:
        images = gather_images(split.store, ticket.row_ids, threads=threads)
        ahead.after(ticket)
        return Batch(
            images=augment(images, ticket.row_ids, epoch=ticket.epoch),
            labels=split.labels_of(ticket.row_ids),
            ticket=ticket,
        )

    return prepare


def make_evaluation_prepare(split: Split, *, image_size: int, threads: int) -> Prepare:
    """Return the function that makes evaluation batches: the centre of each image."""

    def prepare(ticket: Ticket) -> Batch:
        images = gather_images(split.store, ticket.row_ids, threads=threads)
        evaluation_ahead(split.store, ticket)
        return Batch(
            images=center_crop(images, image_size),
            labels=split.labels_of(ticket.row_ids),
            ticket=ticket,
        )

    return prepare
