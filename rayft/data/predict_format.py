"""The columns of predictions: those of the input, and what predicting adds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayft.errors import DataError, Problem


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PartFormat:
    """The columns of a part."""

    classes: tuple[str, ...]
    carried: Any
    """Schema of the columns that come from the input."""
    top: int | None
    """The number of classes that are listed, best first; None lists all, in their order."""
    prefix: str
    """What the names of the added columns begin with."""

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the columns that predicting adds."""
        listed = ("probabilities",) if self.top is None else ("top_labels", "top_probabilities")
        names = ("label", "probability", *listed, "error")
        return tuple(self.prefix + name for name in names)

    def check(self) -> None:
        """Refuse columns of the input that have the name of an added one.

        Raises:
            DataError: there are such columns, or there are fewer classes than are to be listed.
        """
        if self.top is not None and self.top > len(self.classes):
            what = f"the model knows {len(self.classes)} classes, fewer than {self.top}"
            raise DataError(Problem("--top", what, "lower it, or leave it out to get all"))
        if twice := [name for name in self.carried.names if name in self.added]:
            what = f"the input has columns that predicting adds: {', '.join(map(repr, twice))}"
            fix = "name the added ones otherwise, as with --prefix predicted_, or choose --columns"
            raise DataError(Problem("--columns", what, fix))

    def table(
        self,
        carried: Any,  # noqa: ANN401  pyarrow has no types
        probabilities: NDArray[np.float64],
        errors: Sequence[str | None],
    ) -> Any:  # noqa: ANN401  pyarrow has no types
        """Return rows of the output.

        Args:
            carried: table [n] of the columns that come from the input.
            probabilities: [n, C]; rows that have an error may hold anything.
            errors: [n] why a row's image cannot be read, or None.
        """
        bad = np.array([error is not None for error in errors], dtype=np.bool_)
        # Of equal probabilities the first class comes first, as in evaluation.
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top or 1]
        best = np.take_along_axis(probabilities, order[:, :1], axis=1)[:, 0]
        columns = [self._labels(order[:, 0], bad), pa.array(best.astype(np.float32), mask=bad)]
        if self.top is None:
            columns.append(_lists(probabilities, bad))
        else:
            names = np.array(self.classes, dtype=np.object_)
            listed = np.take_along_axis(probabilities, order, axis=1)
            columns += [_lists(names[order], bad), _lists(listed, bad)]
        columns.append(pa.array(errors, pa.string()))
        for name, column in zip(self.added, columns, strict=True):
            carried = carried.append_column(name, column)
        return carried

    def _labels(self, places: NDArray[np.int64], bad: NDArray[np.bool_]) -> Any:  # noqa: ANN401
        return pa.array(self.classes, pa.string()).take(pa.array(places, mask=bad))


def _lists(values: NDArray[np.float64] | NDArray[np.object_], bad: NDArray[np.bool_]) -> Any:  # noqa: ANN401
    """Return the list of each row of `values` [n, width], null where it is bad."""
    kept = values[~bad].ravel()
    inner = pa.array(kept, pa.string() if kept.dtype == np.object_ else pa.float32())
    ends = np.append(0, np.cumsum(~bad)).astype(np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner, mask=pa.array(bad))
