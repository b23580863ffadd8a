"""What training would see: some rows as they are stored, and their augmented views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.data.prepare import PreparedDataset, estimate_dataset
from rayft.errors import DataError, Problem
from rayft.feed.gather import gather_images
from rayft.feed.order import Ids, balanced_order
from rayft.feed.prepare import training_rows
from rayft.feed.tickets import TrainingRows
from rayft.plan.facts import SplitName
from rayft.plan.storage import stored_size
from rayft.plan.views import views_of_epochs
from rayft.runtime.preflight import Places, facts_of_model, input_size
from rayft.spec.run import RunSpec
from rayft.store.dataset import Split, open_dataset
from rayft.transforms.augment import center_crop, make_augmentation

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """Rows of a split and what the model is shown of them."""

    row_ids: NDArray[np.int64]
    """[n]."""
    classes: tuple[str, ...]
    """[n], the class of each row."""
    stored: Images
    """[n, S, S, C] as the row store holds them."""
    views: Images
    """[V, n, H, H, C]: what the model is shown, before `mix` and scaling in a phase."""
    seen_in: tuple[str, ...]
    """[V], `epoch 0`, `epoch 1` ... of training rows, `use 0`, `use 1` ... of each one in the
    balanced order, `evaluation` of others; `epoch 4, as 0` where the views of an earlier one come
    again."""


def is_prepared(spec: RunSpec, places: Places) -> bool:
    """Tell whether the rows of a spec are prepared and their sources unchanged since.

    Raises:
        DataError: the sources or their labels break the contract.
    """
    facts = estimate_dataset(
        spec.data,
        base_dir=places.base_dir,
        store_root=places.store_root,
        stored_size=stored_size(spec, image_size=input_size(spec)),
    )
    return facts.exact


def preview(
    spec: RunSpec,
    prepared: PreparedDataset,
    *,
    split: SplitName,
    num_rows: int,
    num_views: int,
) -> Preview:
    """Make the views of some rows: the very bytes of a run, which follow from the spec alone.

    Args:
        spec: the run.
        prepared: its dataset.
        split: where the rows come from.
        num_rows: rows, of as many classes as there are.
        num_views: epochs, from the first, or uses of each row in the balanced order; other splits
            than `train` have one view only.

    Raises:
        DataError: there is no such split.
        SpecError: an augmentation does not fit the size of the images, or a phase the model.
    """
    dataset = open_dataset(prepared.ref)
    if split not in dataset.splits:
        raise DataError(
            Problem(
                f"data.{split}",
                f"there is no {split} split; there is {', '.join(sorted(dataset.splits))}",
                "choose one of these with --split",
            )
        )
    rows = dataset.splits[split]
    row_ids = _first_of_each_class(rows.row_ids, rows.labels_of(rows.row_ids), num_rows)
    stored = gather_images(rows.store, row_ids, threads=1)
    size = input_size(spec)
    if split == "train":
        augment = make_augmentation(spec.augment, image_size=size, seed=spec.seed)
        numbers = _views(spec, prepared, rows, row_ids, num_views)
        views = {
            _title(spec, column, number): augment(stored, row_ids, epoch=number)
            for column, number in enumerate(numbers)
        }
    else:
        views = {"evaluation": center_crop(stored, size)}
    return Preview(
        row_ids=row_ids,
        classes=tuple(dataset.classes[label] for label in rows.labels_of(row_ids).tolist()),
        stored=stored,
        views=np.stack([*views.values()]),
        seen_in=tuple(views),
    )


def _views(
    spec: RunSpec, prepared: PreparedDataset, rows: Split, row_ids: Ids, num_views: int
) -> NDArray[np.int64]:
    """Return the views [V, n] of rows in the epochs of the run, or in their uses if balanced.

    What comes after the last epoch goes on like it.
    """
    in_turn = views_of_epochs(spec, facts_of_model(spec, prepared.facts), prepared.facts)
    if spec.data.order == "balanced":
        return _views_of_uses(spec, in_turn, training_rows(rows), row_ids, num_views)
    last = len(in_turn) - 1
    numbers = [in_turn[min(epoch, last)] for epoch in range(num_views)]
    views = [epoch % number if number else epoch for epoch, number in enumerate(numbers)]
    return np.repeat(np.array(views)[:, None], len(row_ids), axis=1)


def _views_of_uses(
    spec: RunSpec,
    in_turn: Sequence[int | None],
    rows: TrainingRows,
    row_ids: Ids,
    num_uses: int,
) -> NDArray[np.int64]:
    """Return the views [V, n]; those of a use depend on the epoch that it falls into."""
    uses = np.arange(num_uses)
    # Where there is no end of views, a use's number stays as it is.
    views = np.repeat((uses % (in_turn[-1] or num_uses))[:, None], len(row_ids), axis=1)
    place = {row_id: number for number, row_id in enumerate(row_ids.tolist())}
    last_use = np.full(len(row_ids), -1)
    for epoch, number in enumerate(in_turn):
        if (last_use >= num_uses - 1).all():
            break
        if number == in_turn[-1]:
            continue
        order = balanced_order(rows.row_ids, rows.labels, seed=spec.seed, epoch=epoch)
        ours = np.isin(order.row_ids, row_ids)
        columns = np.array([place[row_id] for row_id in order.row_ids[ours].tolist()], np.int64)
        use = order.views[ours]
        np.maximum.at(last_use, columns, use)
        shown = use < num_uses
        views[use[shown], columns[shown]] = use[shown] % (number or num_uses)
    return views


def _title(spec: RunSpec, column: int, views: NDArray[np.int64]) -> str:
    name = f"{'use' if spec.data.order == 'balanced' else 'epoch'} {column}"
    again = int(views[0]) != column and (views == views[0]).all()
    return f"{name}, as {views[0]}" if again else name


def _first_of_each_class(
    row_ids: NDArray[np.int64], labels: NDArray[np.int64], num_rows: int
) -> NDArray[np.int64]:
    """Return the first row of each class, then the second of each, and so on."""
    by_class = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[by_class], prepend=-1))
    place = np.empty(len(labels), np.int64)
    place[by_class] = np.arange(len(labels)) - np.repeat(
        starts, np.diff(starts, append=len(labels))
    )
    return row_ids[np.lexsort((labels, place))[:num_rows]]
