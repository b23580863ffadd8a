"""From a ticket to a batch: gather rows by id, augment them, in whole batches.

A pure function of the row store and the ticket: where it runs changes no byte.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.feed.ahead import TrainingAhead, evaluation_ahead
from rayft.feed.gather import gather_images
from rayft.feed.order import RowViews
from rayft.feed.pending import Pending, each_once, pending_of
from rayft.feed.tickets import Ticket, TrainingRows
from rayft.plan.order import OrderPlan
from rayft.spec.run import RunSpec
from rayft.store.dataset import Split
from rayft.transforms.augment import center_crop, make_augmentation
from rayft.transforms.mix import Mixing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The rows of one ticket, on their way to a device."""

    images: NDArray[np.uint8]
    """[n, H, W, C]; not normalised, so that a quarter of the bytes travel. Where the device is to
    augment them, [m, S, S, C] as `pending` says."""
    labels: NDArray[np.int64]
    """[n] class of each row."""
    ticket: Ticket
    mix: "Mix | None" = None
    """What was put into the images, where there is a `mix:` list and it was done already."""
    pending: Pending | None = None
    """What the device has still to do to the images; None where they are ready."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mix:
    """The rows that were put into those of a batch."""

    labels: NDArray[np.int64]
    """[n] class of each partner."""
    shares: NDArray[np.float32]
    """[n] how much of each row is its own, in 0..1."""


Prepare = Callable[[Ticket], Batch]


def make_training_prepare(
    spec: RunSpec, split: Split, *, order: OrderPlan, image_size: int, threads: int
) -> Prepare:
    """Return the function that makes training batches: random views, drawn per row.

    With `augment_on: device` it hands the stored images over, for the device to make views of.
    """
    if spec.augment_on == "device":
        return _make_pending_prepare(spec, split, order=order, threads=threads)
    augment = make_augmentation(spec.augment, image_size=image_size, seed=spec.seed)
    mixing = Mixing(spec.mix, spec.seed) if spec.mix else None
    ahead = TrainingAhead(split.store, order, seed=spec.seed)

    def views(rows: RowViews) -> NDArray[np.uint8]:
        images = gather_images(split.store, rows.row_ids, threads=threads)
        if not spec.augment:
            return images
        return augment.of_loaded(
            images.__getitem__,
            rows.row_ids,
            epoch=rows.views,
            threads=threads,
            channels=images.shape[3],
        )

    def prepare(ticket: Ticket) -> Batch:
        mine = RowViews(row_ids=ticket.row_ids, views=ticket.views)
        labels = split.labels_of(ticket.row_ids)
        if mixing is None:
            images, mix = views(mine), None
        else:
            assert ticket.partners is not None
            rows, own, others = each_once(mine, ticket.partners)
            images = views(rows)
            images, shares = mixing(images[own], images[others], mine.row_ids, epoch=mine.views)
            mix = Mix(labels=split.labels_of(ticket.partners.row_ids), shares=shares)
        ahead.after(ticket)
        return Batch(images=images, labels=labels, ticket=ticket, mix=mix)

    return prepare


def _make_pending_prepare(
    spec: RunSpec, split: Split, *, order: OrderPlan, threads: int
) -> Prepare:
    ahead = TrainingAhead(split.store, order, seed=spec.seed)

    def prepare(ticket: Ticket) -> Batch:
        pending = pending_of(ticket, split, mixes=bool(spec.mix))
        images = gather_images(split.store, pending.rows.row_ids, threads=threads)
        ahead.after(ticket)
        labels = split.labels_of(ticket.row_ids)
        return Batch(images=images, labels=labels, ticket=ticket, pending=pending)

    return prepare


def training_rows(split: Split) -> TrainingRows:
    """Return what tickets are made from."""
    return TrainingRows(row_ids=split.row_ids, labels=split.labels_of(split.row_ids))


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
