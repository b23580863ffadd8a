"""What training would see: some rows as they are stored, and their augmented views."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.data.prepare import PreparedDataset, estimate_dataset
from rayft.errors import DataError, Problem
from rayft.feed.gather import gather_images
from rayft.plan.facts import SplitName
from rayft.plan.storage import stored_size
from rayft.plan.views import views_of_epochs
from rayft.runtime.preflight import Places, facts_of_model, input_size
from rayft.spec.run import RunSpec
from rayft.store.dataset import open_dataset
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
    """[V, n, H, H, C]: what the model is shown, before `mix`."""
    seen_in: tuple[str, ...]
    """[V], `epoch 0`, `epoch 1` ... of training rows, `evaluation` of others; `epoch 4, as 0` where
    an epoch takes the views of an earlier one again."""


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
        num_views: epochs, from the first; other splits than `train` have one view only.

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
        views = {
            f"epoch {epoch}" + (f", as {view}" if view != epoch else ""): augment(
                stored, row_ids, epoch=view
            )
            for epoch, view in enumerate(_views(spec, prepared, num_views))
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


def _views(spec: RunSpec, prepared: PreparedDataset, num_epochs: int) -> list[int]:
    """Return the view of each row that an epoch takes; epochs after the last go on like it."""
    in_turn = views_of_epochs(spec, facts_of_model(spec, prepared.facts), prepared.facts)
    last = len(in_turn) - 1
    numbers = [in_turn[min(epoch, last)] for epoch in range(num_epochs)]
    return [epoch % number if number else epoch for epoch, number in enumerate(numbers)]


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
