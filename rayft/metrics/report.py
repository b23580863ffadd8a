"""What an evaluation found, as values that can be compared, printed and written."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

JsonValue = str | int | float | None | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMetrics:
    """How well one class was found; a share of nothing is 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Rows whose target is this class."""
    auroc: float | None
    """Area under the ROC curve of this class against the rest; None where one side is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstRow:
    """A row on which the model is confidently wrong, or its label is."""

    row_id: int
    target: str
    predicted: str
    target_probability: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassificationReport:
    """The evaluation of one head on all rows of a split.

    Macro figures are means over the classes that occur in the targets: a class without a row has
    no recall, and counting it as 0 would only tell that the split is small.
    """

    num_rows: int
    loss: float
    """Mean cross entropy in nats."""
    accuracy: float
    top5_accuracy: float | None
    """None with 5 classes or fewer, where it would always be 1."""
    macro_precision: float
    macro_recall: float
    """Equal to `balanced_accuracy`; both names are in use."""
    macro_f1: float
    balanced_accuracy: float
    auroc: float
    """Mean over the classes of one against the rest; NaN where the split holds one class only."""
    ece: float
    """Expected calibration error."""
    classes: tuple[ClassMetrics, ...]
    absent_classes: tuple[str, ...]
    """Classes without a row: left out of every macro figure."""
    confusion: NDArray[np.int64]
    """Rows by target (first axis) and prediction (second axis), [C, C]."""
    worst_rows: tuple[WorstRow, ...]
    """Rows of the highest loss first; of equal losses the lower row id first."""

    def metrics(self, *, prefix: str = "") -> dict[str, float]:
        """Return the figures under the names of `METRICS`, each behind `prefix`.

        `top5_accuracy` is missing with 5 classes or fewer. `auroc` is NaN where it is undefined,
        so that which names there are depends on the classes only, never on the rows.
        """
        values = {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "top5_accuracy": self.top5_accuracy,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "auroc": self.auroc,
            "ece": self.ece,
        }
        return {f"{prefix}{name}": value for name, value in values.items() if value is not None}

    def to_json(self) -> dict[str, JsonValue]:
        """Return everything as plain Python values; what is undefined is None, never NaN."""
        figures: dict[str, JsonValue] = {
            name: None if math.isnan(value) else value for name, value in self.metrics().items()
        }
        return {
            "num_rows": self.num_rows,
            "metrics": figures,
            "classes": [
                {
                    "name": found.name,
                    "precision": found.precision,
                    "recall": found.recall,
                    "f1": found.f1,
                    "support": found.support,
                    "auroc": found.auroc,
                }
                for found in self.classes
            ],
            "absent_classes": list(self.absent_classes),
            "confusion": self.confusion.tolist(),
            "worst_rows": [
                {
                    "row_id": row.row_id,
                    "target": row.target,
                    "predicted": row.predicted,
                    "target_probability": row.target_probability,
                    "loss": row.loss,
                }
                for row in self.worst_rows
            ],
        }
