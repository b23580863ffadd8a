"""Classes in figures: rows, brightness, colour, and shares of pictures with a fault."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rayft.data.report.finding import Example, Finding, FindingName
from rayft.data.report.measure import Measures
from rayft.data.report.pictures import picture_masks
from rayft.data.report.rows import SPLITS, ReportRows, RowName
from rayft.plan.facts import SplitName
from rayft.spec.data import DataSpec, FoldsSpec, SplitSpec

_PARTS = (SplitSpec, FoldsSpec)
FEWEST_ROWS = 10
"""Training rows below which a class counts as small: too few to learn from or to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Figures of one class, or of all rows."""

    name: str
    rows: Mapping[SplitName, int]
    brightness: float
    """Mean over rows of the mean grey, white being 1."""
    brightness_std: float
    """Standard deviation over rows of the mean grey."""
    contrast: float
    """Mean over rows of the standard deviation of pixels."""
    colour: tuple[float, ...]
    """Mean of each channel."""
    shares: Mapping[FindingName, float]
    """Share of rows that are blank, dark, light and blurred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How evenly training rows are spread over classes."""

    largest: int
    smallest: int
    ratio: float
    """Rows of the largest class over those of the smallest; 0 where that has none."""


def class_figures(rows: ReportRows, measures: Measures) -> tuple[ClassFigures, ...]:
    """Return the figures of all rows, and then those of each class."""
    masks = picture_masks(measures)
    whole = _figures("all", np.ones(len(rows), dtype=np.bool_), rows, measures, masks)
    each = [
        _figures(name, rows.label == label, rows, measures, masks)
        for label, name in enumerate(rows.classes)
    ]
    return (whole, *each)


def balance(figures: tuple[ClassFigures, ...]) -> Balance:
    """Return how even the training rows of the classes are."""
    counts = [each.rows.get("train", 0) for each in figures[1:]]
    ratio = max(counts) / min(counts) if min(counts) else 0.0
    return Balance(largest=max(counts), smallest=min(counts), ratio=ratio)


def small_classes(data: DataSpec, figures: tuple[ClassFigures, ...]) -> Finding:
    """Return the classes with too few rows to train on, or for the splits that are asked for."""
    found = []
    for each in figures[1:]:
        if reason := _too_small(data, each):
            name = RowName(source="train", split="train", row=-1, file="", label=each.name, hash="")
            found.append((sum(each.rows.values()), Example(row=name, detail=reason)))
    found.sort(key=lambda pair: pair[0])
    return Finding(
        name="small_classes",
        title="small classes",
        rule=f"Classes with fewer than {FEWEST_ROWS} training rows, with fewer rows than folds, or "
        "whose share for validation or test comes to less than one row.",
        count=len(found),
        examples=tuple(example for _, example in found),
    )


def _too_small(data: DataSpec, figures: ClassFigures) -> str:
    train = figures.rows.get("train", 0)
    shares = [s for s in (data.validation, data.test) if isinstance(s, SplitSpec)]
    pooled = train + sum(
        rows
        for split, rows in figures.rows.items()
        if isinstance({"validation": data.validation, "test": data.test}.get(split), _PARTS)
    )
    if isinstance(data.validation, FoldsSpec) and pooled < data.validation.folds:
        return f"{_rows(pooled)} for {data.validation.folds} folds"
    for spec in shares:
        if spec.fraction * pooled < 1:
            return f"{_rows(pooled)}, of which a share of {spec.fraction:g} is less than one"
    return f"{_rows(train)} to train on" if train < FEWEST_ROWS else ""


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _figures(
    name: str,
    chosen: npt.NDArray[np.bool_],
    rows: ReportRows,
    measures: Measures,
    masks: Mapping[FindingName, npt.NDArray[np.bool_]],
) -> ClassFigures:
    places = np.flatnonzero(chosen)
    counts = np.bincount(rows.split[places], minlength=len(SPLITS)).tolist()
    present = set(rows.split.tolist())
    split_rows = {s: counts[i] for i, s in enumerate(SPLITS) if i in present}
    if not len(places):
        nothing = dict.fromkeys(masks, 0.0)
        return ClassFigures(
            name=name,
            rows=split_rows,
            brightness=0.0,
            brightness_std=0.0,
            contrast=0.0,
            colour=(0.0,) * measures.colour.shape[1],
            shares=nothing,
        )
    colour = measures.colour[places].mean(axis=0, dtype=np.float64)
    brightness = measures.brightness[places].astype(np.float64)
    return ClassFigures(
        name=name,
        rows=split_rows,
        brightness=float(brightness.mean()),
        brightness_std=float(brightness.std()),
        contrast=float(measures.contrast[places].mean(dtype=np.float64)),
        colour=tuple(colour.tolist()),
        shares={fault: float(mask[places].mean()) for fault, mask in masks.items()},
    )
