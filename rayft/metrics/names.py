"""The names of metrics, and whether more or less of each is better."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from rayft.errors import Problem, SpecError

Direction = Literal["min", "max"]

METRICS: Mapping[str, Direction] = MappingProxyType(
    {
        "loss": "min",
        "accuracy": "max",
        "top5_accuracy": "max",
        "macro_precision": "max",
        "macro_recall": "max",
        "macro_f1": "max",
        "balanced_accuracy": "max",
        "auroc": "max",
        "ece": "min",
    }
)
"""Every metric of a classification head, with the direction in which it gets better."""

FEWEST_CLASSES_FOR_TOP5 = 6
"""With 5 classes or fewer every row is among its top 5, so the metric would say nothing."""

_SPLIT = "validation"


def check_metric(name: str, *, setting: str, num_classes: int | None = None) -> Direction:
    """Return the direction in which a metric that steers the run gets better.

    Only the validation split may steer: choosing by the test split would make its final figure
    too good, and the training loss is a running mean over a changing model.

    Args:
        name: `validation/` and a key of `METRICS`.
        setting: path of the setting that holds the name, such as `best_metric`.
        num_classes: classes of the head, where known; `top5_accuracy` needs more than 5.

    Raises:
        SpecError: there is no such metric, or not for so few classes; names the nearest ones.
    """
    split, slash, metric = name.partition("/")
    if slash and split == _SPLIT and metric in METRICS:
        _refuse_top5(name, setting, num_classes)
        return METRICS[metric]
    if slash and split in ("train", "test"):
        what = f"{name!r} is not of the validation split, and only that one may steer a run"
    else:
        what = f"there is no metric {name!r}"
    raise SpecError(Problem(setting, what, _hint(metric if slash else name)))


def _refuse_top5(name: str, setting: str, num_classes: int | None) -> None:
    if not name.endswith("/top5_accuracy") or num_classes is None:
        return
    if num_classes < FEWEST_CLASSES_FOR_TOP5:
        raise SpecError(
            Problem(
                setting,
                f"{name!r} is 1 for every model with {num_classes} classes; it needs at least "
                f"{FEWEST_CLASSES_FOR_TOP5}",
                f"use {_SPLIT}/accuracy",
            )
        )


def _hint(metric: str) -> str:
    every = f"metrics are {', '.join(f'{_SPLIT}/{known}' for known in METRICS)}"
    near = get_close_matches(metric, METRICS, n=2)
    if not near:
        return f"use one of these; {every}"
    return f"did you mean {' or '.join(f'{_SPLIT}/{known}' for known in near)}? {every}"
