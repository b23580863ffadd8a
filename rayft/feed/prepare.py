"""From a ticket to a batch: gather rows by id, augment them, in whole batches.

A pure function of the row store and the ticket: where it runs changes no byte.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.feed.ahead import TrainingAhead, evaluation_ahead
from rayft.feed.gather import gather_images
from rayft.feed.kept import KeptRows
from rayft.feed.order import RowViews
from rayft.feed.pending import Pending, each_once, pending_of
from rayft.feed.tickets import Ticket, TrainingRows
from rayft.plan.prefix import PrefixPlan
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.spec.mix import acting
from rayft.spec.run import RunSpec
from rayft.store.dataset import Split
from rayft.transforms.augment import center_crop, make_augmentation
from rayft.transforms.mix import Mixing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The rows of one ticket, on their way to a device."""

    images: NDArray[np.uint8] | None
    """[n, H, W, C]; not normalised, so that a quarter of the bytes travel. Where the device is to
    augment them, [m, S, S, C] as `pending` says. None where `kept` is there."""
    labels: NDArray[np.int64]
    """[n] class of each row."""
    ticket: Ticket
    mix: "Mix | None" = None
    """What was put into the images, where there is a `mix:` list and it was done already."""
    pending: Pending | None = None
    """What the device has still to do to the images; None where they are ready."""
    prefix: PrefixPlan | None = None
    """What the rows go through before anything that trains."""
    kept: NDArray[np.generic] | None = None
    """[n, ...] what the prefix made of the rows earlier."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mix:
    """The rows that were put into those of a batch."""

    labels: NDArray[np.int64]
    """[n] class of each partner."""
    shares: NDArray[np.float32]
    """[n] how much of each row is its own, in 0..1."""


Prepare = Callable[[Ticket], Batch]


def make_training_prepare(
    plan: RunPlan,
    phase: PhasePlan,
    split: Split,
    *,
    threads: int,
    after: Callable[[Ticket], None] | None = None,
) -> Prepare:
    """Return the function that makes training batches: random views, drawn per row.

    With `augment_on: device` it hands the stored images over, for the device to make views of.

    Args:
        plan: the run.
        phase: one of its phases.
        split: the training rows.
        threads: threads that decode and augment.
        after: called with each ticket once its rows have been gathered; left out, shards are
            fetched ahead in the order of the phase.
    """
    spec = plan.spec
    after = after or TrainingAhead(split.store, plan.order, seed=spec.seed).after
    prefix = apart(phase.prefix)
    if spec.augment_on == "device":
        return _make_pending_prepare(spec, split, threads=threads, after=after, prefix=prefix)
    augment = make_augmentation(spec.augment, image_size=plan.model.image_size, seed=spec.seed)
    mixes = acting(spec.mix)
    mixing = Mixing(mixes, spec.seed) if mixes else None

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
        after(ticket)
        return Batch(images=images, labels=labels, ticket=ticket, mix=mix, prefix=prefix)

    return prepare


def _make_pending_prepare(
    spec: RunSpec,
    split: Split,
    *,
    threads: int,
    after: Callable[[Ticket], None],
    prefix: PrefixPlan | None,
) -> Prepare:
    def prepare(ticket: Ticket) -> Batch:
        pending = pending_of(ticket, split, mixes=bool(acting(spec.mix)))
        images = gather_images(split.store, pending.rows.row_ids, threads=threads)
        after(ticket)
        labels = split.labels_of(ticket.row_ids)
        return Batch(images=images, labels=labels, ticket=ticket, pending=pending, prefix=prefix)

    return prepare


def training_rows(split: Split) -> TrainingRows:
    """Return what tickets are made from."""
    return TrainingRows(row_ids=split.row_ids, labels=split.labels_of(split.row_ids))


def apart(prefix: PrefixPlan | None) -> PrefixPlan | None:
    """Return a prefix that can run apart from what lies above it."""
    return prefix if prefix and prefix.rows else None


def make_kept_prepare(split: Split, rows: KeptRows, prefix: PrefixPlan) -> Prepare:
    """Return the function that makes batches from what a prefix made of their rows earlier."""

    def prepare(ticket: Ticket) -> Batch:
        return Batch(
            images=None,
            labels=split.labels_of(ticket.row_ids),
            ticket=ticket,
            prefix=prefix,
            kept=rows.gather(ticket.row_ids, ticket.views),
        )

    return prepare


def make_evaluation_prepare(
    split: Split, *, image_size: int, threads: int, prefix: PrefixPlan | None = None
) -> Prepare:
    """Return the function that makes evaluation batches: the centre of each image."""

    def prepare(ticket: Ticket) -> Batch:
        images = gather_images(split.store, ticket.row_ids, threads=threads)
        evaluation_ahead(split.store, ticket)
        return Batch(
            images=center_crop(images, image_size),
            labels=split.labels_of(ticket.row_ids),
            ticket=ticket,
            prefix=prefix,
        )

    return prepare
